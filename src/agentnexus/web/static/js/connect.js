// The page for signing in: its buttons, for those with scripts. Codes by e-mail need none of this.
import { call, createPasskey, signInWithPasskey, whyNoPasskeys } from "./passkey.js";
import { accountOf, onWallets, walletButton } from "./wallets.js";

async function signInWithWallet(wallet) {
  const address = await accountOf(wallet);
  const asked = await call("/challenge", { address });
  const bytes = new TextEncoder().encode(asked.message);
  const text = `0x${[...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("")}`;
  const signature = await wallet.provider.request({ method: "personal_sign", params: [text, address] });
  await call("/login", { address, nonce: asked.nonce, signature, cookie: true });
}

// Browsers name what went wrong in one word.
function wordsFor(error) {
  if (error.name === "NotAllowedError") return "No passkey was used. Try again, or sign in another way.";
  if (error.name === "InvalidStateError") return "This device has a passkey of yours already.";
  return error.message || String(error);
}

export function setUpConnectPage() {
  const page = document.querySelector("[data-connect-page]");
  if (!page) return;
  const problem = page.querySelector("[data-connect-problem]");
  const act = (button, action) => {
    button.addEventListener("click", async () => {
      problem.hidden = true;
      button.disabled = true;
      try {
        await action();
        window.location.assign(page.dataset.next);
      } catch (error) {
        if (error.code === "sign_in_again") {
          window.location.assign(`/connect?again=1&next=${encodeURIComponent(window.location.pathname)}`);
          return;
        }
        problem.querySelector("strong").textContent = wordsFor(error);
        problem.hidden = false;
        button.disabled = false;
      }
    });
    button.disabled = false; // until now a press would have been lost
  };

  const reason = whyNoPasskeys();
  for (const place of page.querySelectorAll("[data-passkeys]")) {
    place.hidden = Boolean(reason);
    const note = place.parentElement.querySelector("[data-no-passkeys]");
    note.textContent = reason;
    note.hidden = !reason;
  }
  for (const button of page.querySelectorAll("[data-passkey]")) {
    const platform = navigator.userAgentData?.platform ?? "";
    const create = () => createPasskey(platform, "own" in button.dataset);
    act(button, button.dataset.passkey === "create" ? create : signInWithPasskey);
  }
  const place = page.querySelector("[data-wallet-sign-in]");
  if (!place) return;
  const buttons = new Map();
  onWallets((all) => {
    page.querySelector("[data-no-wallet]").hidden = all.length > 0;
    for (const [provider, button] of buttons) {
      if (!all.some((wallet) => wallet.provider === provider && wallet.name === button.dataset.name)) button.remove();
    }
    for (const wallet of all) {
      if (buttons.get(wallet.provider)?.isConnected) continue;
      const button = walletButton(wallet, "Sign in with");
      button.dataset.name = wallet.name;
      buttons.set(wallet.provider, button);
      place.append(button);
      act(button, () => signInWithWallet(wallet));
    }
  });
}
