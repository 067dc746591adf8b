"""The console and the demo in a real browser: Chromium, driven by Playwright. The tox environment `browser` runs them.

`python -m tests.browser.screenshots` makes the images of the documentation.
"""
