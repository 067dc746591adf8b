// ---- the theme: that of the system, until the button `theme` chooses one. The choice is kept in this browser.

const THEME_KEY = "wsaas-theme";

function storedTheme() {
  try { return localStorage.getItem(THEME_KEY); } catch { return null; }
}

function isDark() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

function showTheme() {
  $("theme").textContent = isDark() ? "Light" : "Dark";
  $("theme").setAttribute("aria-label", `Use the ${isDark() ? "light" : "dark"} theme`);
}

function chooseTheme(theme) {
  document.documentElement.dataset.theme = theme;
  try { localStorage.setItem(THEME_KEY, theme); } catch { /* then it is forgotten with the page */ }
  showTheme();
}

if (["light", "dark"].includes(storedTheme())) document.documentElement.dataset.theme = storedTheme();
$("theme").addEventListener("click", () => chooseTheme(isDark() ? "light" : "dark"));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", showTheme);
showTheme();
