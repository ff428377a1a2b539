"use strict";
// Lists what /openapi.json describes; nothing is fetched from elsewhere.
for (const e of document.querySelectorAll(".origin")) e.textContent = location.origin;
fetch("/openapi.json").then((r) => r.json()).then((spec) => {
  const table = document.createElement("table");
  table.className = "bars";
  for (const [path, verbs] of Object.entries(spec.paths)) {
    for (const [verb, what] of Object.entries(verbs)) {
      const row = table.insertRow();
      const name = Object.assign(document.createElement("th"), { scope: "row", textContent: `${verb.toUpperCase()} ${path}` });
      const kinds = Object.keys(what.requestBody?.content || {}).join(", ");
      const refusals = Object.entries(what.responses).filter(([s]) => s >= 400).map(([s, r]) => `${s} ${r.description}`).join("; ");
      const small = [what.summary, kinds && `takes ${kinds}`, refusals && `may answer ${refusals}`].filter(Boolean).join(". ");
      name.append(Object.assign(document.createElement("small"), { textContent: small }));
      row.append(name);
    }
  }
  document.getElementById("paths").append(table);
});
