// What the theme lacks for users of a keyboard or a screen reader.
document.addEventListener("DOMContentLoaded", () => {
  for (const caption of document.querySelectorAll('.caption[role="heading"]')) {
    caption.setAttribute("aria-level", "2");
  }
  document.querySelector(".sidebar-drawer")?.setAttribute("aria-label", "Navigation");
  document.querySelector(".toc-drawer")?.setAttribute("aria-label", "On this page");
  document.querySelector(".content-icon-container")?.setAttribute("role", "complementary");
  document.querySelector(".content-icon-container")?.setAttribute("aria-label", "About this page");
  for (const scrolled of document.querySelectorAll(".content pre, .table-wrapper")) {
    if (scrolled.scrollWidth > scrolled.clientWidth) {
      scrolled.tabIndex = 0;
    }
  }
});
