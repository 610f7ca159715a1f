// Signs what a wallet sends: with a passkey, or with the browser's wallet. What is signed is on the page already.
import { toast } from "./toast.js";
import { signEvm } from "./wallet.js";
import { accountOf, chosenWallet, onWallets, wallets } from "./wallets.js";

const ADDRESS = /^(\d+(\.\d+){3}|\[.*\])$/;

async function withPasskey(form) {
  if (ADDRESS.test(location.hostname)) {
    throw new Error(`a passkey belongs to a name, not to ${location.hostname}: open http://localhost:${location.port}${location.pathname}`);
  }
  const { signWithPasskey } = await import("./passkey.js");
  return signWithPasskey(form.dataset.challenge, form.dataset.credential, location.hostname);
}

// Browsers name what went wrong in one word.
function wordsFor(error) {
  if (error.name === "NotAllowedError") return "your device did not confirm it. Try again when you are ready.";
  return error.message ?? error;
}

// Wallets sign typed data of the chain they are on only.
async function onItsChain(provider, payload) {
  const wanted = `0x${Number(JSON.parse(payload).domain.chainId).toString(16)}`;
  const chainId = await provider.request({ method: "eth_chainId" });
  if (Number(chainId) !== Number(wanted)) {
    await provider.request({ method: "wallet_switchEthereumChain", params: [{ chainId: wanted }] });
  }
}

async function withWallet(form) {
  const payload = form.elements.payload.value;
  return { signature: await signEvm(form, payload, (provider) => onItsChain(provider, payload)) };
}

// The page may have been drawn anew while its owner thought about it: the answer goes into the form that is there now.
function send(form, signed) {
  const same = `[data-sign-form][action="${form.getAttribute("action")}"]`;
  const current = form.isConnected ? form : document.querySelector(same);
  if (!current) return;
  for (const [name, value] of Object.entries(signed)) current.elements[name].value = value;
  current.requestSubmit();
}

export function setUpSigning() {
  if (document.querySelector('[data-sign-form="wallet"]')) wallets(); // those that take their time have it from here
  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-sign-now]");
    if (!button) return;
    const form = button.closest("form");
    button.disabled = true;
    try {
      send(form, await (form.dataset.signForm === "passkey" ? withPasskey : withWallet)(form));
    } catch (error) {
      toast(`It was not signed: ${wordsFor(error)}`);
    } finally {
      button.disabled = false;
    }
  });
  const connect = document.querySelector("[data-connect-evm]");
  if (!connect) return;
  onWallets((all) => (connect.hidden = !all.length));
  connect.addEventListener("click", async () => {
    try {
      const account = await accountOf(await chosenWallet());
      document.getElementById(connect.dataset.connectEvm).value = account;
    } catch (error) {
      toast(`The wallet did not connect: ${error.message ?? error}`);
    }
  });
}
