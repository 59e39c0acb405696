// The same for onnxruntime-node and onnxruntime-web: node consumer.cjs PACKAGE GRAPH INPUT FOLDER
const { readFileSync } = require("node:fs");
const { dirname, join } = require("node:path");

async function main() {
  const [name, graph, input, folder] = process.argv.slice(2);
  const ort = require(require.resolve(name, { paths: [process.cwd()] }));
  const weights = { path: "weights.bin", data: join(dirname(graph), "weights.bin") };
  const options = name === "onnxruntime-web" ? { externalData: [weights] } : {};
  const session = await ort.InferenceSession.create(graph, options);
  const rows = [];
  for (const [index, shape] of JSON.parse(readFileSync(join(folder, "shapes.json"))).entries()) {
    const bytes = new Uint8Array(readFileSync(join(folder, `${index}.bin`)));
    const outputs = await session.run({ [input]: new ort.Tensor("uint8", bytes, shape) });
    rows.push(Array.from(outputs[session.outputNames[0]].data));
  }
  console.log(JSON.stringify(rows));
}
main().catch((error) => {
  console.error(String(error));
  process.exit(1);
});
