// Buys one URL with the official TypeScript client: node buy.mjs <url> <private key> <method> <body>
import { ExactEvmScheme } from "@x402/evm";
import { decodePaymentResponseHeader, wrapFetchWithPayment, x402Client } from "@x402/fetch";
import { privateKeyToAccount } from "viem/accounts";

const [url, key, method, body] = process.argv.slice(2);
const client = new x402Client();
client.register("eip155:*", new ExactEvmScheme(privateKeyToAccount(key)));
if (typeof client.setSpendControls === "function") client.setSpendControls(false);
const response = await wrapFetchWithPayment(fetch, client)(url, { method, body: body || undefined });
const settled = response.headers.get("PAYMENT-RESPONSE");
const text = await response.text();
process.stdout.write(
  JSON.stringify({ status: response.status, text, settled: settled && decodePaymentResponseHeader(settled) }),
);
