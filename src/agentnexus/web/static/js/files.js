// Drop zones: the chosen files as a list that can be changed, on top of the plain file input that still does the work.
const KILO = 1000;

export function setUpFiles() {
  document.addEventListener("change", (event) => {
    if (event.target.matches("[data-drop] input[type=file]")) chosen(event.target);
  });
  for (const name of ["dragover", "dragleave", "drop"]) {
    document.addEventListener(name, (event) => {
      const zone = event.target.closest?.("[data-drop]");
      zone?.classList.toggle("over", name === "dragover");
    });
  }
  // A file dropped beside the zone would replace the page with the file.
  for (const name of ["dragover", "drop"]) {
    document.addEventListener(name, (event) => {
      if (!event.target.closest?.("[data-drop]") && event.dataTransfer?.types.includes("Files")) event.preventDefault();
    });
  }
}

function chosen(input) {
  if (input.multiple) keepEarlier(input);
  nameAfterFile(input);
  draw(input);
}

// Choosing again adds to a multiple input instead of replacing what is there.
function keepEarlier(input) {
  const all = new DataTransfer();
  const seen = new Set();
  for (const file of [...(input.earlier ?? []), ...input.files]) {
    const key = `${file.name}/${file.size}/${file.lastModified}`;
    if (!seen.has(key)) all.items.add(file);
    seen.add(key);
  }
  input.files = all.files;
  input.earlier = [...all.files];
}

// An empty name beside a file means the file's own name.
function nameAfterFile(input) {
  const group = input.closest("fieldset");
  const name = group?.querySelector("input[type=text][name$='/name'], input:not([type])[name$='/name']");
  if (name && !name.value && input.files.length === 1) name.value = input.files[0].name;
}

function draw(input) {
  const list = input.closest("[data-file-field]").querySelector("[data-files]");
  list.replaceChildren(...[...input.files].map((file, at) => line(input, file, at)));
}

function line(input, file, at) {
  const item = document.createElement("li");
  const name = document.createElement("span");
  name.className = "name";
  name.textContent = file.name;
  const size = document.createElement("span");
  size.className = "note";
  size.textContent = readable(file.size);
  const remove = document.createElement("button");
  remove.type = "button";
  remove.textContent = "✕";
  remove.setAttribute("aria-label", `Remove ${file.name}`);
  remove.addEventListener("click", () => without(input, at));
  item.append(name, size, remove);
  return item;
}

function without(input, at) {
  const rest = new DataTransfer();
  [...input.files].forEach((file, index) => index !== at && rest.items.add(file));
  input.files = rest.files;
  input.earlier = [...rest.files];
  draw(input);
  input.focus();
}

function readable(bytes) {
  if (bytes < KILO) return `${bytes} bytes`;
  return bytes < KILO * KILO ? `${Math.round(bytes / KILO)} KB` : `${(bytes / KILO / KILO).toFixed(1)} MB`;
}
