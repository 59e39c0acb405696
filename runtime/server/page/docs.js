"use strict";

const find = (id) => document.getElementById(id);
let token = "";

function element(tag, text, kind) {
  const created = document.createElement(tag);
  if (text !== undefined) created.textContent = text;
  if (kind) created.className = kind;
  return created;
}

function schemaText(schema) {
  return JSON.stringify(schema, null, 2);
}

function describe(method, path, operation) {
  const details = element("details");
  const summary = element("summary");
  summary.append(element("span", method.toUpperCase(), "method"), element("code", path), element("span", operation.summary));
  const body = element("div", undefined, "body");
  if (operation.description) body.append(element("p", operation.description));
  for (const parameter of operation.parameters || []) {
    body.append(element("p", `${parameter.name} (in the ${parameter.in}): ${JSON.stringify(parameter.schema)}`));
  }
  const content = (operation.requestBody || {}).content || {};
  for (const [media, { schema }] of Object.entries(content)) {
    body.append(element("h3", `Request: ${media}`), element("pre", schemaText(schema)));
  }
  const table = element("table");
  for (const [status, response] of Object.entries(operation.responses)) {
    const row = element("tr");
    const [media] = Object.keys(response.content || {});
    row.append(element("th", status), element("td", response.description), element("td", media || ""));
    table.append(row);
  }
  body.append(element("h3", "Responses"), table);
  const success = Object.values((operation.responses["200"] || {}).content || {})[0];
  if (success) body.append(element("h3", "Response 200"), element("pre", schemaText(success.schema)));
  details.append(summary, body);
  return details;
}

async function load() {
  const response = await fetch("openapi.json", { headers: token ? { Authorization: `Bearer ${token}` } : {} });
  find("access").hidden = response.status !== 401;
  if (!response.ok) return;
  const { paths, servers } = await response.json();
  const prefix = servers ? servers[0].url : "";
  const tags = new Map();
  for (const [path, methods] of Object.entries(paths)) {
    for (const [method, operation] of Object.entries(methods)) {
      const [tag] = operation.tags;
      if (!tags.has(tag)) tags.set(tag, []);
      tags.get(tag).push(describe(method, prefix + path, operation));
    }
  }
  const order = ["Predict", "Open Inference Protocol"];
  const names = [...order.filter((tag) => tags.has(tag)), ...[...tags.keys()].filter((tag) => !order.includes(tag))];
  find("operations").replaceChildren(...names.flatMap((tag) => [element("h2", tag), ...tags.get(tag)]));
}

find("access").addEventListener("submit", (event) => {
  event.preventDefault();
  token = find("token").value.trim();
  load();
});
load();
