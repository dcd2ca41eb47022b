// What is wider than its line scrolls inside itself; make it reachable by keyboard, and only it.
// (The theme does this for code, outputs and tables.)
window.addEventListener("load", async () => {
  await window.MathJax?.startup?.promise;
  const observer = new ResizeObserver((entries) => {
    for (const { target } of entries) {
      if (target.scrollWidth > target.clientWidth) target.tabIndex = 0;
      else target.removeAttribute("tabindex");
    }
  });
  const wide = "div.math mjx-container, span.math, figure.advreg-figure, .explore-frames";
  for (const element of document.querySelectorAll(wide)) observer.observe(element);
});

// Paper is white: print in the light theme, whatever is on the screen.
let onScreen;
window.addEventListener("beforeprint", () => {
  onScreen = document.documentElement.dataset.theme;
  document.documentElement.dataset.theme = "light";
});
window.addEventListener("afterprint", () => {
  document.documentElement.dataset.theme = onScreen;
});
