// The wallets in this browser. Each announces itself (EIP-6963); where none does, window.ethereum is taken as it is.
// What they say of themselves is foreign: names are text, icons are images and never anything that runs.
const NAME_CHARS = 40;
const ICON_CHARS = 64 * 1024;
const WALLETS_MAX = 12;
const ICON = /^data:image\/(png|jpeg|gif|webp|svg\+xml)[;,]/i;
const ID = /^[a-z0-9-]+(\.[a-z0-9-]+)+$/i;
const CHOICE = "nexus-wallet";

const announced = new Map();
const listeners = [];
let asked = false;

function nameOf(text) {
  // Letters that cannot be seen or turn the text around would let one wallet look like another.
  const plain = String(text ?? "").replace(/[\p{C}\p{Zl}\p{Zp}]/gu, "").trim();
  return [...plain].slice(0, NAME_CHARS).join("") || "A wallet without a name";
}

function heard(event) {
  const { info, provider } = event.detail ?? {};
  if (typeof info?.uuid !== "string" || typeof provider?.request !== "function") return;
  if (announced.has(info.uuid) || announced.size >= WALLETS_MAX) return;
  const icon = typeof info.icon === "string" && info.icon.length <= ICON_CHARS && ICON.test(info.icon) ? info.icon : "";
  const id = typeof info.rdns === "string" && info.rdns.length <= 100 && ID.test(info.rdns) ? info.rdns : "";
  announced.set(info.uuid, { provider, icon, id, name: nameOf(info.name) });
  for (const tell of listeners) tell(wallets());
}

function discover() {
  if (asked) return;
  asked = true;
  window.addEventListener("eip6963:announceProvider", heard);
  window.dispatchEvent(new Event("eip6963:requestProvider"));
}

// All that are known now: [{name, icon, id, provider}]. `name` is "" for the one that did not announce itself.
export function wallets() {
  discover();
  if (announced.size) return [...announced.values()];
  return window.ethereum ? [{ provider: window.ethereum, name: "", icon: "", id: "" }] : [];
}

// Calls `tell` with all that are known, now and whenever another one announces itself.
export function onWallets(tell) {
  listeners.push(tell);
  tell(wallets());
}

// The one to use: the only one, the one that was used last, or the one that the visitor chooses now.
export async function chosenWallet() {
  const all = wallets();
  if (!all.length) throw new Error("there is none in this browser; sign elsewhere and paste the signature");
  if (all.length === 1) return all[0];
  const last = all.filter((wallet) => wallet.id && wallet.id === remembered());
  return last.length === 1 ? last[0] : ask(all); // two of one name: only the visitor knows
}

// The account that the visitor connects with it; the wallet is then the one to begin with next time.
export async function accountOf(wallet) {
  const [account] = await wallet.provider.request({ method: "eth_requestAccounts" });
  if (wallet.id) store((kept) => kept.setItem(CHOICE, wallet.id));
  return account;
}

export function forgetWallet() {
  store((kept) => kept.removeItem(CHOICE));
}

// A button with the wallet's own icon and name after `words`.
export function walletButton(wallet, words) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "button";
  if (wallet.icon) {
    const image = document.createElement("img");
    Object.assign(image, { src: wallet.icon, alt: "", width: 20, height: 20 });
    button.append(image);
  }
  button.append(`${words} ${wallet.name || "the browser’s wallet"}`.trim());
  return button;
}

function remembered() {
  return store((kept) => kept.getItem(CHOICE));
}

// Some browsers keep nothing, and say so by throwing.
function store(act) {
  try {
    return act(window.localStorage);
  } catch {
    return null;
  }
}

function ask(all) {
  const dialog = document.createElement("dialog");
  dialog.className = "card wallet-ask";
  dialog.setAttribute("aria-label", "Which wallet?");
  const place = document.createElement("div");
  place.className = "stack stack-3";
  const heading = document.createElement("h2");
  heading.textContent = "Which wallet?";
  const cancel = document.createElement("button");
  Object.assign(cancel, { type: "button", className: "button button-plain", textContent: "None of them" });
  cancel.addEventListener("click", () => dialog.close());
  place.append(heading);
  dialog.append(place);
  return new Promise((resolve, reject) => {
    for (const wallet of all) {
      const button = walletButton(wallet, "");
      button.addEventListener("click", () => {
        resolve(wallet);
        dialog.close();
      });
      place.append(button);
    }
    place.append(cancel);
    dialog.addEventListener("close", () => {
      dialog.remove();
      reject(new Error("no wallet was chosen")); // after a choice this changes nothing
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}
