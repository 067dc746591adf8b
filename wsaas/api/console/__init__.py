"""The console: its page, and the JSON and the streams that the page reads."""
