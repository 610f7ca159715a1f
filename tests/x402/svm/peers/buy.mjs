// Buys one URL with the official TypeScript client on Solana: node buy.mjs <url> <key as JSON> <rpc url> <method> <body>
import { createKeyPairSignerFromBytes } from "@solana/kit";
import { ExactSvmScheme, toClientSvmSigner } from "@x402/svm";
import { decodePaymentResponseHeader, wrapFetchWithPayment, x402Client } from "@x402/fetch";

const [url, key, rpcUrl, method, body] = process.argv.slice(2);
const signer = toClientSvmSigner(await createKeyPairSignerFromBytes(Uint8Array.from(JSON.parse(key))));
const client = new x402Client();
client.register("solana:*", new ExactSvmScheme(signer, { rpcUrl }));
if (typeof client.setSpendControls === "function") client.setSpendControls(false);
const response = await wrapFetchWithPayment(fetch, client)(url, { method, body: body || undefined });
const settled = response.headers.get("PAYMENT-RESPONSE");
const text = await response.text();
process.stdout.write(
  JSON.stringify({ status: response.status, text, settled: settled && decodePaymentResponseHeader(settled) }),
);
