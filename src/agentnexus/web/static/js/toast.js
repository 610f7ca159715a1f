// A short message at the edge of the screen; screen readers hear it, it leaves by itself or by its button.
const STAYS_MS = 7000;

export function toast(text) {
  const place = document.querySelector("[data-toasts]");
  if (!place || [...place.children].some((each) => each.textContent.includes(text))) return;
  const box = document.createElement("div");
  box.className = "toast";
  const words = document.createElement("p");
  words.textContent = text;
  const close = document.createElement("button");
  close.type = "button";
  close.setAttribute("aria-label", "Close this message");
  close.textContent = "✕";
  close.addEventListener("click", () => box.remove());
  box.append(words, close);
  place.append(box);
  setTimeout(() => box.remove(), STAYS_MS);
}
