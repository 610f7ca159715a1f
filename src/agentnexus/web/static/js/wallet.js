// Signs with the wallet in the browser, where there is one; without it the signature is pasted.
import { toast } from "./toast.js";
import { accountOf, chosenWallet, forgetWallet, onWallets } from "./wallets.js";

// `prepare` is told the provider once it is known that the account is the right one.
export async function signEvm(form, payload, prepare = async () => {}) {
  const wallet = await chosenWallet();
  const account = await accountOf(wallet);
  if (`evm:${account.toLowerCase()}` !== form.dataset.wallet) {
    forgetWallet(); // so that the next press asks which
    throw new Error(`the wallet is at ${account}`);
  }
  await prepare(wallet.provider);
  return wallet.provider.request({ method: "eth_signTypedData_v4", params: [account, payload] });
}

async function connectSolana() {
  const connected = await window.solana.connect();
  return (connected?.publicKey ?? window.solana.publicKey).toString();
}

async function signSolana(form, payload) {
  const address = await connectSolana();
  if (form.dataset.address && address !== form.dataset.address) throw new Error(`the wallet is at ${address}`);
  const { signature } = await window.solana.signMessage(new TextEncoder().encode(payload), "utf8");
  return [...signature].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

// A button that writes the address of the browser's wallet into the field it names.
function setUpConnect() {
  const button = document.querySelector("[data-connect]");
  if (!button || !window.solana) return;
  button.hidden = false;
  button.addEventListener("click", async () => {
    try {
      document.getElementById(button.dataset.connect).value = await connectSolana();
    } catch (error) {
      toast(`The wallet did not connect: ${error.message ?? error}`);
    }
  });
}

export function setUpWallet() {
  setUpConnect();
  const form = document.querySelector("[data-sign]");
  if (!form) return;
  const evm = form.dataset.sign === "eip712";
  const place = form.querySelector("[data-sign-button]");
  if (evm) onWallets((all) => (place.hidden = !all.length));
  else place.hidden = !window.solana;
  place.addEventListener("click", async () => {
    try {
      const payload = form.elements.payload.value;
      form.elements.signature.value = await (evm ? signEvm : signSolana)(form, payload);
      form.requestSubmit();
    } catch (error) {
      toast(`The wallet did not sign: ${error.message ?? error}`);
    }
  });
}
