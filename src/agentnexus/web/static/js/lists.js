// Adding and removing list items without a page load. Without scripts the same buttons ask the server to do it.
export function setUpLists() {
  document.addEventListener("click", (event) => {
    const add = event.target.closest("[data-add]");
    const remove = event.target.closest("[data-remove]");
    if (add) {
      event.preventDefault();
      append(add.closest("[data-list]"));
    } else if (remove) {
      event.preventDefault();
      drop(remove.closest("[data-item]"));
    }
  });
}

function append(list) {
  const template = list.querySelector(":scope > template");
  const items = list.querySelector(":scope > [data-items]");
  // Indexes only ever grow, so a name is never given twice; the server counts them anew.
  const index = Number(list.dataset.next ?? items.children.length);
  list.dataset.next = String(index + 1);
  const copy = template.content.cloneNode(true);
  number(copy, list.dataset.marker, String(index));
  items.append(copy);
  items.lastElementChild.querySelector("input:not([type=hidden]), textarea, select, button")?.focus();
}

function number(root, marker, index) {
  for (const element of root.querySelectorAll("*")) {
    for (const attribute of element.attributes) {
      if (attribute.value.includes(marker)) attribute.value = attribute.value.replaceAll(marker, index);
    }
    if (element instanceof HTMLTemplateElement) number(element.content, marker, index);
  }
}

function drop(item) {
  const list = item.closest("[data-list]");
  item.remove();
  list.querySelector(":scope > div > [data-add]").focus();
}
