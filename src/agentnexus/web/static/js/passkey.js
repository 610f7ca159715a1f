// Passkeys: create one, sign in with one, and sign a challenge with one. Bytes travel as base64url.
const API = "/api/v1/auth";

// What to say when this browser cannot; "" when it can.
export function whyNoPasskeys() {
  if (!window.isSecureContext) return "Passkeys need HTTPS, or localhost.";
  if (!window.PublicKeyCredential || !navigator.credentials) return "This browser has no passkeys.";
  return "";
}

// Makes a passkey for who is signed in; who is not becomes somebody new and is signed in as them. `own`: also who is only
// taken for a development node's local user.
// Resolves to {user, passkey: {credential_id, public_key, rp_id, name, created_at}}.
export async function createPasskey(name = "", own = false) {
  requirePasskeys();
  const options = await call("/passkeys/options", { own });
  const credential = await navigator.credentials.create({
    publicKey: {
      ...options,
      challenge: bytesOf(options.challenge),
      user: { ...options.user, id: bytesOf(options.user.id) },
      excludeCredentials: options.excludeCredentials.map((each) => ({ ...each, id: bytesOf(each.id) })),
    },
  });
  const { clientDataJSON, attestationObject } = credential.response;
  return call("/passkeys", {
    name,
    own,
    cookie: true,
    credential: plain(credential, { clientDataJSON, attestationObject }),
  });
}

// Signs in with whichever passkey the visitor chooses. Resolves to {user}.
export async function signInWithPasskey() {
  requirePasskeys();
  const options = await call("/passkeys/login/options");
  const credential = await navigator.credentials.get({
    publicKey: { ...options, challenge: bytesOf(options.challenge) },
  });
  const { clientDataJSON, authenticatorData, signature, userHandle } = credential.response;
  return call("/passkeys/login", {
    cookie: true,
    credential: plain(credential, { clientDataJSON, authenticatorData, signature, userHandle }),
  });
}

// Signs 32 bytes with one passkey. Resolves to {authenticator_data, client_data, signature}, as wallets take them.
export async function signWithPasskey(challengeBase64url, credentialIdBase64url, rpId) {
  requirePasskeys();
  const credential = await navigator.credentials.get({
    publicKey: {
      challenge: bytesOf(challengeBase64url),
      rpId,
      allowCredentials: [{ type: "public-key", id: bytesOf(credentialIdBase64url) }],
      userVerification: "required",
    },
  });
  const { authenticatorData, clientDataJSON, signature } = credential.response;
  return {
    authenticator_data: textOf(authenticatorData),
    client_data: textOf(clientDataJSON),
    signature: textOf(signature),
  };
}

// Posts JSON to the node's sign-in addresses; throws an Error that says what went wrong and what to do.
export async function call(path, body = {}) {
  const answer = await fetch(API + path, {
    method: "POST",
    headers: { "Content-Type": "application/json", Accept: "application/json" },
    body: JSON.stringify(body),
  });
  const { data, error } = await answer.json();
  if (!answer.ok) {
    const text = [error.message, error.next_step].filter(Boolean).join(". ");
    throw Object.assign(new Error(text), { code: error.code });
  }
  return data;
}

function requirePasskeys() {
  const reason = whyNoPasskeys();
  if (reason) throw new Error(reason);
}

function plain(credential, response) {
  const fields = Object.entries(response).filter(([, value]) => value);
  return {
    id: credential.id,
    rawId: textOf(credential.rawId),
    type: credential.type,
    response: Object.fromEntries(fields.map(([name, value]) => [name, textOf(value)])),
  };
}

function bytesOf(text) {
  const binary = atob(text.replaceAll("-", "+").replaceAll("_", "/"));
  return Uint8Array.from(binary, (letter) => letter.charCodeAt(0));
}

function textOf(buffer) {
  const binary = String.fromCharCode(...new Uint8Array(buffer));
  return btoa(binary).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}
