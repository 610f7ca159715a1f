// Test doubles: wallets that announce themselves as extensions do (EIP-6963), made by a test inside the page.
(() => {
  class FakeAnnouncedWallet {
    constructor({ account, chainId = "0x7a69", late = false, ...info }) {
      Object.assign(this, { account, chainId, info });
      if (!late) window.addEventListener("eip6963:requestProvider", () => this.announce());
    }

    announce() {
      const detail = Object.freeze({ info: Object.freeze(this.info), provider: this });
      window.dispatchEvent(new CustomEvent("eip6963:announceProvider", { detail }));
    }

    async request({ method, params }) {
      window.fakeCalls.push([this.info.uuid, method]);
      if (method === "eth_requestAccounts") return [this.account];
      if (method === "eth_chainId") return this.chainId;
      if (method === "personal_sign") return window.fakeSign(this.account, params[0]);
      if (method === "eth_signTypedData_v4") return `0x${params[1].length.toString(16).padStart(130, "0")}`;
      throw new Error(`a fake wallet knows no ${method}`);
    }
  }

  window.fakeCalls = [];
  window.fakeWallets = FAKES.map((each) => new FakeAnnouncedWallet(each));
})();
