// Everything here makes pages nicer; none of it is needed to read one or to send a form.
import { setUpConnectPage } from "./connect.js";
import { setUpFiles } from "./files.js";
import { setUpLists } from "./lists.js";
import { setUpLive } from "./live.js";
import { setUpNeeds } from "./needs.js";
import { setUpSigning } from "./signing.js";
import { setUpTheme } from "./theme.js";
import { toast } from "./toast.js";
import { setUpWallet } from "./wallet.js";

function setUpCopy() {
  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-copy]");
    if (!button) return;
    try {
      await navigator.clipboard.writeText(button.dataset.copy);
      toast("Copied.");
    } catch {
      toast("The browser did not allow copying. Select the text instead.");
    }
  });
}

function setUpSlash() {
  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest("input, textarea, select, [contenteditable]");
    const field = document.querySelector("[data-slash]");
    if (event.key !== "/" || typing || !field || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    field.focus();
    field.select();
  });
}

function setUpForms() {
  // A second click while the first request is under way must not send the form twice.
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (form.method !== "post" || event.defaultPrevented || form.hasAttribute("data-theme-switch")) return;
    if (form.dataset.sent) event.preventDefault();
    form.dataset.sent = "1";
  });
  // Coming back with the browser's back button finds the form usable again.
  window.addEventListener("pageshow", () => {
    for (const form of document.querySelectorAll("form[data-sent]")) delete form.dataset.sent;
  });
  document.querySelector("[data-focus]")?.focus();
}

// Tabs that do not fit a phone begin with the one that is open; a new schedule starts in the visitor's own time zone.
function setUpPlace() {
  for (const tab of document.querySelectorAll(".tabs [aria-current]")) {
    tab.parentElement.scrollLeft = tab.offsetLeft - (tab.parentElement.clientWidth - tab.offsetWidth) / 2;
  }
  const zone = document.querySelector("[data-zone]");
  if (zone) zone.value = Intl.DateTimeFormat().resolvedOptions().timeZone || zone.value;
}

function setUpRequestErrors() {
  const say = () => toast("The node did not answer. What you see may be old; try again in a moment.");
  document.addEventListener("htmx:error", say);
  document.addEventListener("htmx:response:error", say);
}

setUpTheme();
setUpFiles();
setUpLists();
setUpNeeds();
setUpLive();
setUpCopy();
setUpSlash();
setUpForms();
setUpWallet();
setUpSigning();
setUpPlace();
setUpRequestErrors();
setUpConnectPage();
