// Of some fields one is needed, which HTML has no word for: the browser says so before anything is sent.
export function setUpNeeds() {
  for (const name of ["input", "change", "click"]) document.addEventListener(name, check);
  check();
}

function check() {
  for (const rule of document.querySelectorAll("[data-one-of]")) {
    const groups = JSON.parse(rule.dataset.oneOf).map((ids) => ids.map((id) => controls(document.getElementById(id))));
    const said = groups.flat(2);
    if (!said.length) continue;
    const filled = groups.filter((fields) => fields.every((field) => field.some(hasValue))).length;
    const right = "exactly" in rule.dataset ? filled === 1 : filled > 0;
    for (const control of said) control.setCustomValidity("");
    said[0].setCustomValidity(right ? "" : rule.textContent.trim());
  }
}

function controls(field) {
  if (!field) return [];
  return field.matches("input, textarea, select") ? [field] : [...field.querySelectorAll("input:not([type=hidden]), textarea, select")];
}

function hasValue(control) {
  if (control.type === "checkbox" || control.type === "radio") return control.checked;
  if (control.type === "file") return control.files.length > 0 || Boolean(control.parentElement.querySelector("input[type=hidden]")?.value);
  return control.value.trim() !== "";
}
