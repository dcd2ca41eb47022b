// A formula wider than its line scrolls inside itself; make it reachable by keyboard, and only it.
window.addEventListener("load", async () => {
  await window.MathJax?.startup?.promise;
  const observer = new ResizeObserver((entries) => {
    for (const { target } of entries) {
      if (target.scrollWidth > target.clientWidth) target.tabIndex = 0;
      else target.removeAttribute("tabindex");
    }
  });
  for (const formula of document.querySelectorAll("div.math mjx-container, span.math")) {
    observer.observe(formula);
  }
});
