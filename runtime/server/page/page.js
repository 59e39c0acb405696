"use strict";

const find = (id) => document.getElementById(id);
const STAGES = {
  queue: "waiting for a worker",
  decode: "bytes to pixels",
  geometry: "resize and crop",
  network: "the model itself",
  transfer: "to the server and back",
};
let token = "";
let latest = 0;
let metadata = { inputs: [], parameters: { kind: "image" } };
// The latest input: a picture's file, or the JSON of another kind.
let shown = null;

const kindOf = () => metadata.parameters.kind;
const modelPath = () => `predict/${encodeURIComponent(find("model").value)}`;

function headers(more) {
  return token ? { ...more, Authorization: `Bearer ${token}` } : { ...more };
}

async function send(path, options = {}) {
  const response = await fetch(path, { ...options, headers: headers(options.headers) });
  if (response.status === 401) {
    find("access").hidden = false;
    find("token").focus();
  }
  if (!response.ok) {
    const body = await response.json().catch(() => ({}));
    throw new Error(body.error || `the server returned status ${response.status}`);
  }
  return response;
}

async function listModels() {
  try {
    const { models } = await (await send("v2/models")).json();
    find("model").replaceChildren(...models.map((name) => new Option(name, name)));
    find("access").hidden = true;
    find("error").hidden = true;
    await chooseModel();
  } catch (error) {
    showError(error);
  }
}

async function chooseModel() {
  try {
    const before = kindOf();
    metadata = await (await send(`v2/models/${encodeURIComponent(find("model").value)}`)).json();
    find("image").hidden = kindOf() !== "image";
    find("fields").hidden = kindOf() === "image";
    if (kindOf() !== "image") writeFields();
    if (kindOf() !== "image" || before !== "image") clear();
    writeCalls();
    if (shown && kindOf() === "image") predictPicture(shown);
  } catch (error) {
    showError(error);
  }
}

function clear() {
  latest += 1;
  shown = null;
  find("labels").replaceChildren();
  for (const id of ["row", "time", "error", "preview"]) find(id).hidden = true;
  find("hint").hidden = false;
}

// An example of a tensor's shape, to be edited: a free length becomes 2, the batch dimension is omitted.
function example({ datatype, shape }) {
  const lengths = shape.slice(1).map((length) => (length === -1 ? 2 : length));
  const zero = datatype === "BOOL" ? false : datatype === "BYTES" ? "" : 0;
  return lengths.reduceRight((inner, length) => Array(Math.min(length, 64)).fill(inner), zero);
}

// The tensors of each part of an input: a part's own, or those behind its name and a dot, such as a row's columns.
function partsOf(inputs) {
  const parts = {};
  for (const input of inputs) {
    const name = input.name.split(".", 1)[0];
    (parts[name] = parts[name] || []).push(input);
  }
  return parts;
}

function examplePart(name, tensors) {
  if (tensors.length === 1 && tensors[0].name === name) return example(tensors[0]);
  const column = (tensor) => (tensor.name === name ? name : tensor.name.slice(name.length + 1));
  return Object.fromEntries(tensors.map((tensor) => [column(tensor), tensor.datatype === "BYTES" ? "" : 0]));
}

function readFile(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(file);
  });
}

async function readParts() {
  const parts = {};
  for (const field of find("cells").querySelectorAll("[name]")) {
    parts[field.name] = field.type === "file" ? await readFile(field.files[0]) : JSON.parse(field.value);
  }
  return parts;
}

function writeFields() {
  const cell = (title, field) => {
    const label = element("label", title);
    label.append(field);
    return label;
  };
  const area = (text, kind) => {
    const field = element("textarea", text, kind);
    field.required = true;
    field.spellcheck = false;
    return field;
  };
  if (kindOf() === "tabular") {
    find("cells").replaceChildren(
      ...metadata.inputs.map(({ name, datatype }) => {
        const field = element("input");
        field.name = name;
        if (datatype !== "BYTES") {
          field.type = "number";
          field.step = "any";
        }
        return cell(name, field);
      }),
    );
    return;
  }
  const [first] = metadata.inputs;
  if (kindOf() === "text") {
    find("cells").replaceChildren(...(first.shape.length > 1 ? ["first", "second"] : ["text"]).map((name) => cell(name, area(""))));
    return;
  }
  if (kindOf() === "several") {
    find("cells").replaceChildren(
      ...Object.entries(partsOf(metadata.inputs)).map(([name, tensors]) => {
        const isFile = tensors.length === 1 && (tensors[0].parameters || {}).also;
        const field = isFile ? element("input") : area(JSON.stringify(examplePart(name, tensors)), "code");
        if (isFile) {
          field.type = "file";
          field.required = true;
        }
        field.name = name;
        return cell(name, field);
      }),
    );
    return;
  }
  const value = kindOf() === "tokens" ? [1, 2, 3] : example(first);
  find("cells").replaceChildren(cell("JSON", area(JSON.stringify(value), "code")));
}

function readFields() {
  if (kindOf() === "tabular") {
    return Object.fromEntries(
      [...find("cells").querySelectorAll("input")].map((field) => [
        field.name,
        field.value === "" ? null : field.type === "number" ? Number(field.value) : field.value,
      ]),
    );
  }
  const texts = [...find("cells").querySelectorAll("textarea")].map((field) => field.value);
  if (kindOf() !== "text") return JSON.parse(texts[0]);
  return texts.length > 1 ? texts : texts[0];
}

function showError(error) {
  find("labels").replaceChildren();
  find("row").hidden = true;
  find("time").hidden = true;
  find("error").textContent = error.message;
  find("error").hidden = false;
}

function timings(response, totalMs) {
  const parts = {};
  for (const entry of (response.headers.get("Server-Timing") || "").split(",")) {
    const [name, duration] = entry.trim().split(";dur=");
    if (name in STAGES) parts[name] = Number(duration);
  }
  const known = Object.values(parts).reduce((sum, value) => sum + value, 0);
  parts.transfer = Math.max(0, totalMs - known);
  return parts;
}

function predictPicture(file) {
  find("preview").src = URL.createObjectURL(file);
  find("preview").onload = () => URL.revokeObjectURL(find("preview").src);
  find("preview").onerror = () => {
    find("preview").hidden = true;
    find("hint").hidden = false;
  };
  find("preview").alt = file.name;
  find("preview").hidden = false;
  find("hint").hidden = true;
  shown = file;
  return predict(file, file.type || "application/octet-stream");
}

async function predictFields() {
  try {
    shown = { input: kindOf() === "several" ? await readParts() : readFields() };
  } catch (error) {
    showError(new Error(`not JSON: ${error.message}`));
    return undefined;
  }
  return predict(JSON.stringify(shown), "application/json");
}

async function predict(body, type) {
  const sequence = ++latest;
  writeCalls();
  const started = performance.now();
  try {
    const response = await send(modelPath(), { method: "POST", headers: { "Content-Type": type }, body });
    const { predictions } = await response.json();
    if (sequence !== latest) return;
    const totalMs = performance.now() - started;
    find("error").hidden = true;
    showResult(predictions[0]);
    showTime(timings(response, totalMs), totalMs);
  } catch (error) {
    if (sequence === latest) showError(error);
  }
}

function element(tag, text, kind) {
  const created = document.createElement(tag);
  if (text !== undefined) created.textContent = text;
  if (kind) created.className = kind;
  return created;
}

function showResult(row) {
  const scored = row.top || row.labels || [];
  find("labels").replaceChildren(
    ...scored.map(({ label, probability }) => {
      const item = element("li");
      const name = element("div", undefined, "name");
      name.append(element("span", label), element("span", `${(probability * 100).toFixed(1)} %`));
      const bar = element("progress");
      bar.max = 1;
      bar.value = probability;
      bar.setAttribute("aria-label", label);
      item.append(name, bar);
      return item;
    }),
  );
  const { input, ...rest } = row;
  find("row").textContent = JSON.stringify(row.values || rest, null, 2).slice(0, 20000);
  find("row").hidden = scored.length > 0;
}

function showTime(parts, totalMs) {
  find("total").textContent = `${totalMs.toFixed(0)} ms`;
  const drawing = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  drawing.setAttribute("viewBox", "0 0 100 1");
  drawing.setAttribute("preserveAspectRatio", "none");
  const legend = [];
  let x = 0;
  for (const [stage, meaning] of Object.entries(STAGES)) {
    const width = (100 * (parts[stage] || 0)) / totalMs;
    const part = document.createElementNS("http://www.w3.org/2000/svg", "rect");
    for (const [name, value] of Object.entries({ x, y: 0, width, height: 1, class: stage })) {
      part.setAttribute(name, value);
    }
    drawing.append(part);
    x += width;
    const entry = element("div");
    entry.title = meaning;
    entry.append(element("dt", stage, stage), element("dd", `${(parts[stage] || 0).toFixed(1)} ms`));
    legend.push(entry);
  }
  find("stages").replaceChildren(drawing);
  find("legend").replaceChildren(...legend);
  find("time").hidden = false;
}

// What a request has before the first input is chosen.
function placeholder() {
  if (kindOf() !== "several") return "...";
  const fields = [...find("cells").querySelectorAll("[name]")];
  return Object.fromEntries(fields.map((field) => [field.name, field.type === "file" ? "BASE64" : JSON.parse(field.value)]));
}

function writeCalls() {
  const address = new URL(modelPath(), document.baseURI).href;
  const secret = token ? ` -H "Authorization: Bearer $TRUECOPY_TOKEN"` : "";
  const imports = token ? "import json\nimport os\nimport urllib.request" : "import json\nimport urllib.request";
  const authorize = token ? `"Authorization": f"Bearer {os.environ['TRUECOPY_TOKEN']}"` : "";
  const print = 'with urllib.request.urlopen(request) as response:\n    print(json.load(response)["predictions"][0])';
  if (kindOf() !== "image") {
    const short = (_, value) => (typeof value === "string" && value.startsWith("data:") ? "BASE64" : value);
    const body = JSON.stringify(shown || { input: placeholder() }, short);
    const quoted = `'${body.replaceAll("'", "'\\''")}'`;
    const headerItems = ['"Content-Type": "application/json"', authorize].filter(Boolean).join(", ");
    find("curl").textContent = `curl${secret} -H 'Content-Type: application/json' -d ${quoted} ${address}`;
    find("python").textContent = `${imports}

body = json.loads(${JSON.stringify(body)})
request = urllib.request.Request(${JSON.stringify(address)}, json.dumps(body).encode(), {${headerItems}})
${print}`;
    return;
  }
  const name = (shown && shown.name) || "cat.jpg";
  const quoted = `'${name.replaceAll("'", "'\\''")}'`;
  find("curl").textContent = `curl${secret} --data-binary @${/^[\w.-]+$/.test(name) ? name : quoted} ${address}`;
  find("python").textContent = `${imports}

with open(${JSON.stringify(name)}, "rb") as photo:
    request = urllib.request.Request(${JSON.stringify(address)}, photo.read()${authorize && `, {${authorize}}`})
${print}`;
}

function choose(files) {
  const file = [...files].find((candidate) => candidate.type.startsWith("image/")) || files[0];
  if (file && kindOf() === "image") predictPicture(file);
}

find("file").addEventListener("change", (event) => {
  choose(event.target.files);
  event.target.value = "";
});
find("model").addEventListener("change", chooseModel);
find("fields").addEventListener("submit", (event) => {
  event.preventDefault();
  predictFields();
});
find("access").addEventListener("submit", (event) => {
  event.preventDefault();
  token = find("token").value.trim();
  listModels();
});
find("drop").addEventListener("keydown", (event) => {
  if (event.key === "Enter" || event.key === " ") {
    event.preventDefault();
    find("file").click();
  }
});
for (const kind of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    find("drop").classList.toggle("over", kind === "dragover");
    if (kind === "drop") choose(event.dataTransfer.files);
  });
}
document.addEventListener("paste", (event) => choose(event.clipboardData.files));
for (const button of document.querySelectorAll("[data-copy]")) {
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(find(button.dataset.copy).textContent);
    button.textContent = "Copied";
    setTimeout(() => (button.textContent = "Copy"), 1500);
  });
}
listModels();
