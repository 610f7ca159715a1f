// Signs with the wallet in the browser, where there is one; without it the signature is pasted.
import { toast } from "./toast.js";

export async function signEvm(form, payload) {
  const [account] = await window.ethereum.request({ method: "eth_requestAccounts" });
  if (`evm:${account.toLowerCase()}` !== form.dataset.wallet) throw new Error(`the wallet is at ${account}`);
  return window.ethereum.request({ method: "eth_signTypedData_v4", params: [account, payload] });
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
  if (!(evm ? window.ethereum : window.solana)) return;
  const place = form.querySelector("[data-sign-button]");
  place.hidden = false;
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
