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
let shown = null;

function headers(more) {
  return token ? { ...more, Authorization: `Bearer ${token}` } : { ...more };
}

async function ask(path, options = {}) {
  const response = await fetch(path, { ...options, headers: headers(options.headers) });
  if (response.status === 401) {
    find("access").hidden = false;
    find("token").focus();
  }
  if (!response.ok) {
    const body = await response.json().catch(() => ({}));
    throw new Error(body.error || `the server answered ${response.status}`);
  }
  return response;
}

async function listModels() {
  try {
    const { models } = await (await ask("/v2/models")).json();
    find("model").replaceChildren(...models.map((name) => new Option(name, name)));
    find("access").hidden = true;
    find("error").hidden = true;
    writeCalls();
  } catch (error) {
    showError(error);
  }
}

function showError(error) {
  find("labels").replaceChildren();
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

async function predict(file) {
  const mine = ++latest;
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
  writeCalls();
  const started = performance.now();
  try {
    const model = find("model").value;
    const response = await ask(`/predict/${encodeURIComponent(model)}`, {
      method: "POST",
      headers: { "Content-Type": file.type || "application/octet-stream" },
      body: file,
    });
    const answer = await response.json();
    if (mine !== latest) return;
    const totalMs = performance.now() - started;
    find("error").hidden = true;
    showLabels(answer.predictions[0]);
    showTime(timings(response, totalMs), totalMs);
  } catch (error) {
    if (mine === latest) showError(error);
  }
}

function element(tag, text, kind) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

function showLabels(row) {
  find("labels").replaceChildren(
    ...row.top.map(({ label, probability }) => {
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
}

function showTime(parts, totalMs) {
  find("total").textContent = `${totalMs.toFixed(0)} ms`;
  const drawing = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  drawing.setAttribute("viewBox", "0 0 100 1");
  drawing.setAttribute("preserveAspectRatio", "none");
  const legend = [];
  let left = 0;
  for (const [stage, meaning] of Object.entries(STAGES)) {
    const width = (100 * (parts[stage] || 0)) / totalMs;
    const part = document.createElementNS("http://www.w3.org/2000/svg", "rect");
    for (const [name, value] of Object.entries({ x: left, y: 0, width, height: 1, class: stage })) {
      part.setAttribute(name, value);
    }
    drawing.append(part);
    left += width;
    const entry = element("div");
    entry.title = meaning;
    entry.append(element("dt", stage, stage), element("dd", `${(parts[stage] || 0).toFixed(1)} ms`));
    legend.push(entry);
  }
  find("stages").replaceChildren(drawing);
  find("legend").replaceChildren(...legend);
  find("time").hidden = false;
}

function writeCalls() {
  const address = `${location.origin}/predict/${encodeURIComponent(find("model").value)}`;
  const name = (shown && shown.name) || "cat.jpg";
  const quoted = `'${name.replaceAll("'", "'\\''")}'`;
  const secret = token ? ` -H "Authorization: Bearer $TRUECOPY_TOKEN"` : "";
  find("curl").textContent = `curl${secret} --data-binary @${/^[\w.-]+$/.test(name) ? name : quoted} ${address}`;
  const imports = token ? "import json\nimport os\nimport urllib.request" : "import json\nimport urllib.request";
  const authorize = token
    ? `, headers={"Authorization": f"Bearer {os.environ['TRUECOPY_TOKEN']}"}`
    : "";
  find("python").textContent = `${imports}

with open(${JSON.stringify(name)}, "rb") as photo:
    request = urllib.request.Request(${JSON.stringify(address)}, data=photo.read()${authorize})
with urllib.request.urlopen(request) as response:
    print(json.load(response)["predictions"][0]["label"])`;
}

function choose(files) {
  const file = [...files].find((one) => one.type.startsWith("image/")) || files[0];
  if (file) predict(file);
}

find("file").addEventListener("change", (event) => {
  choose(event.target.files);
  event.target.value = "";
});
find("model").addEventListener("change", () => (shown ? predict(shown) : writeCalls()));
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
