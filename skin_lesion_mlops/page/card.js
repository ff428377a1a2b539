"use strict";
// Shows the card that lies beside the model: texts as they are, metrics as tables.

const main = document.getElementById("main");
const title = (key) => { const text = key.replace(/_/g, " "); return text[0].toUpperCase() + text.slice(1); };
const make = (tag, text, attributes = {}) => Object.assign(document.createElement(tag), { textContent: text, ...attributes });

function rows(metric) {
  if (metric.type === "bar_chart") return metric.x_axis_name.map((name, i) => [`${metric.name}, ${name}`, metric.value[i], ""]);
  if (metric.type === "matrix") return metric.value.map((row, i) => [`${metric.name}, truly ${metric.y_axis_name[i]}`, row.map((n, j) => `${metric.x_axis_name[j]} ${n}`).join(", "), ""]);
  if (metric.type === "linear_graph") return [];
  return [[metric.name, metric.value, metric.notes || ""]];
}

function table(metrics) {
  const box = make("div", "", { className: "table-scroll" });
  const made = make("table", "", { className: "bars facts" });
  for (const [name, value, notes] of metrics.flatMap(rows)) {
    const row = made.insertRow();
    row.append(make("th", name.replace(/_/g, " "), { scope: "row" }), make("td", String(value)), make("td", notes));
  }
  box.append(made);
  return box;
}

function section(key, value) {
  if (key === "evaluation_details") {
    for (const part of value) {
      main.append(make("h2", `Evaluation: ${part.name}`), make("p", part.evaluation_observation));
      for (const group of part.metric_groups) main.append(make("h3", group.name), table(group.metric_data));
    }
    return;
  }
  main.append(make("h2", title(key)));
  for (const [name, text] of Object.entries(value)) {
    if (typeof text === "string") main.append(make("h3", title(name)), make("p", text));
    else if (key !== "training_details") main.append(make("h3", title(name)), table(Object.entries(text).map(([n, v]) => ({ name: n, value: v }))));
  }
}

fetch("/about").then((r) => r.json()).then((facts) => { document.getElementById("notice").textContent = facts.notice; });
fetch("/card.json").then((r) => (r.ok ? r.json() : null)).then((card) => {
  if (!card) { document.getElementById("status").textContent = "No model card lies beside this model."; return; }
  const order = ["intended_uses", "evaluation_details", "training_details", "additional_information", "business_details", "model_overview"];
  for (const key of order.filter((k) => card[k])) section(key, card[key]);
});
