// Signs what a wallet sends: with a passkey, or with the browser's wallet. What is signed is on the page already.
import { toast } from "./toast.js";
import { signEvm } from "./wallet.js";

const ADDRESS = /^(\d+(\.\d+){3}|\[.*\])$/;

async function withPasskey(form) {
  if (ADDRESS.test(location.hostname)) {
    throw new Error(`a passkey belongs to a name, not to ${location.hostname}: open http://localhost:${location.port}${location.pathname}`);
  }
  const { signWithPasskey } = await import("./passkey.js");
  const signed = await signWithPasskey(form.dataset.challenge, form.dataset.credential, location.hostname);
  form.elements.signature.value = signed.signature;
  form.elements.authenticator_data.value = signed.authenticator_data;
  form.elements.client_data.value = signed.client_data;
}

// Wallets sign typed data of the chain they are on only.
async function onItsChain(payload) {
  const wanted = `0x${Number(JSON.parse(payload).domain.chainId).toString(16)}`;
  const chainId = await window.ethereum.request({ method: "eth_chainId" });
  if (Number(chainId) !== Number(wanted)) {
    await window.ethereum.request({ method: "wallet_switchEthereumChain", params: [{ chainId: wanted }] });
  }
}

async function withWallet(form) {
  if (!window.ethereum) throw new Error("there is none in this browser; sign elsewhere and paste the signature");
  const payload = form.elements.payload.value;
  await onItsChain(payload);
  form.elements.signature.value = await signEvm(form, payload);
}

export function setUpSigning() {
  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-sign-now]");
    if (!button) return;
    const form = button.closest("form");
    button.disabled = true;
    try {
      await (form.dataset.signForm === "passkey" ? withPasskey : withWallet)(form);
      form.requestSubmit();
    } catch (error) {
      toast(`It was not signed: ${error.message ?? error}`);
    } finally {
      button.disabled = false;
    }
  });
  const connect = document.querySelector("[data-connect-evm]");
  if (!connect || !window.ethereum) return;
  connect.hidden = false;
  connect.addEventListener("click", async () => {
    try {
      const [account] = await window.ethereum.request({ method: "eth_requestAccounts" });
      document.getElementById(connect.dataset.connectEvm).value = account;
    } catch (error) {
      toast(`The wallet did not connect: ${error.message ?? error}`);
    }
  });
}
