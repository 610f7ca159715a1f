// The theme switch without a page load; the cookie lets the server draw the next page right from the start.
const YEAR_SECONDS = 31_536_000;

export function setUpTheme() {
  const form = document.querySelector("[data-theme-switch]");
  form?.addEventListener("click", (event) => {
    const button = event.target.closest("button[name=theme]");
    if (!button) return;
    event.preventDefault();
    choose(button.value, form);
  });
}

function choose(theme, form) {
  document.cookie = `nexus_theme=${theme}; path=/; max-age=${YEAR_SECONDS}; samesite=lax`;
  document.documentElement.dataset.theme = theme;
  for (const button of form.querySelectorAll("button")) {
    button.setAttribute("aria-pressed", String(button.value === theme));
  }
}
