// Makes calls with the AWS SDK for JavaScript; prints what they return or throw as JSON.
// Arguments: the folder with the SDK, and JSON with the options of the client, the calls, and how many milliseconds the
// clock is off.
import { createRequire } from "node:module";

const [folder, given] = process.argv.slice(2);
const { options, calls, clockOffset } = JSON.parse(given);
const RealDate = Date;
globalThis.Date = class extends RealDate {
  constructor(...parts) {
    super(...(parts.length ? parts : [RealDate.now() + clockOffset]));
  }

  static now() {
    return RealDate.now() + clockOffset;
  }
};

const sdk = createRequire(`${folder}/package.json`)("@aws-sdk/client-apigatewaymanagementapi");
const client = new sdk.ApiGatewayManagementApiClient(options);
const results = [];

for (const [command, input] of calls) {
  if (input.base64) {
    input.Data = Buffer.from(input.base64, "base64");
    delete input.base64;
  }
  try {
    const { $metadata, ...output } = await client.send(new sdk[command](input));
    results.push({ status: $metadata.httpStatusCode, attempts: $metadata.attempts, ...output });
  } catch (error) {
    const { httpStatusCode: status, attempts } = error.$metadata ?? {};
    const isModelled = error.name in sdk && error instanceof sdk[error.name];
    results.push({ status, attempts, error: error.name, message: error.message, isModelled });
  }
}
client.destroy();
console.log(JSON.stringify(results));
