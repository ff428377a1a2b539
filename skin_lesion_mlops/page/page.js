"use strict";
// The page of the service: one request a picture, so that the first answer shows while the others are under way.

const $ = (id) => document.getElementById(id);
const percent = (p) => (p > 0 && p < 0.001 ? "< 0.1 %" : p < 1 && p > 0.999 ? "> 99.9 %" : `${(100 * p).toFixed(1)} %`);
let classes = {};
let features = {};
let rules = {};
let readable = true;
let limit = 25 << 20;
let token = "";
let waiting = [];
let done = 0;
let total = 0;
let working = false;

async function about() {
  const facts = await (await fetch("/about")).json();
  classes = Object.fromEntries(facts.classes.map((c) => [c.code, c]));
  limit = facts.limits.bytes;
  features = facts.features;
  rules = facts.rules;
  readable = facts.model.readable_overlays;
  $("notice").textContent = facts.notice;
  $("access").hidden = !facts.limits.token;
  const m = facts.model;
  const rows = { Model: `version ${m.version}`, Network: m.arch, Engine: m.engine, "Malignant from": percent(m.threshold) };
  rows["Likeliest for"] = mixtures(m.mixture);
  $("model").replaceChildren(...Object.entries(rows).map(([k, v]) => {
    const row = document.createElement("div");
    row.append(Object.assign(document.createElement("dt"), { textContent: k }));
    row.append(Object.assign(document.createElement("dd"), { textContent: v }));
    return row;
  }));
}
const ready = about().catch(() => say("The service does not answer. Reload this page when it runs again."));

function mixtures(word) {
  if (word === "training") return "the mixture of its training images";
  return word === "stated" ? "this clinic's stated mixture" : `the mixture at ${word}`;
}

function say(text) { $("status").textContent = text; }

function take(files) {
  const pictures = [...files];
  for (const file of pictures) waiting.push({ file, card: newCard(file) });
  if (!pictures.length) return;
  total += pictures.length;
  $("clear").hidden = false;
  work();
}

function newCard(file) {
  const card = $("card").content.firstElementChild.cloneNode(true);
  const photo = card.querySelector(".photo");
  photo.src = URL.createObjectURL(file);
  photo.alt = `The picture ${file.name}`;
  photo.onerror = () => { photo.hidden = true; };
  card.querySelector("h2").textContent = file.name;
  card.querySelector(".verdict").textContent = "Waiting";
  card.setAttribute("aria-busy", "true");
  $("results").append(card);
  return card;
}

async function work() {
  if (working) return;
  working = true;
  await ready;
  while (waiting.length) {
    const { file, card } = waiting[0];
    say(`Analysing ${done + 1} of ${total}`);
    try {
      const answer = await ask(file);
      if (answer === "token") { say("Enter the token to go on."); $("access").hidden = false; $("token").focus(); break; }
      show(card, file, answer.predictions[0]);
    } catch (e) {
      fail(card, e.message);
    }
    card.removeAttribute("aria-busy");
    waiting.shift();
    done += 1;
  }
  working = false;
  if (!waiting.length) say(done ? `${done} of ${total} analysed` : "");
}

async function ask(file, attempt = 0) {
  if (file.size > limit) throw new Error(`The file is larger than ${Math.floor(limit / 1048576)} MB.`);
  const kind = file.type === "image/png" ? "image/png" : "image/jpeg";
  const headers = { "Content-Type": kind, ...(token && { Authorization: `Bearer ${token}` }) };
  const response = await fetch(`/invocations?explain=${$("explain").checked}`, { method: "POST", headers, body: file })
    .catch(() => { throw new Error("The service does not answer."); });
  if (response.status === 401) return "token";
  if (response.status === 429 && attempt < 5) {
    await new Promise((go) => setTimeout(go, 1000 * Number(response.headers.get("Retry-After") || 1)));
    return ask(file, attempt + 1);
  }
  const body = await response.json();
  if (!response.ok) throw new Error(`This file cannot be used: ${body.error.detail}.`);
  return body;
}

function show(card, file, p) {
  const odd = p.out_of_distribution;
  const heading = card.querySelector("h2");
  const verdict = card.querySelector(".verdict");
  if (odd.flag) {
    card.classList.add("odd");
    heading.textContent = "No answer: this does not look like dermoscopy";
    const why = odd.reasons.length ? ` What is unusual: ${odd.reasons.map((r) => features[r] || r).join(", ")}.` : "";
    verdict.textContent = `${file.name}. The classes are withheld, because they would mean nothing.${why}`;
    return;
  }
  const best = classes[p.predicted];
  heading.textContent = `Likeliest: ${best.name} (${best.plain})`;
  verdict.textContent = file.name;
  showRules(card.querySelector(".rules"), p.decisions);
  showRisk(card.querySelector(".scale"), p);
  showBars(card.querySelector(".bars"), p);
  if (p.overlay_png) showHeat(card, p.overlay_png);
}

function showRules(list, decisions) {
  list.hidden = false;
  const words = {
    likeliest: (d) => `${classes[d.answer].name}, ${percent(d.probability)} in ${mixtures(d.mixture)}`,
    balanced: (d) => classes[d.answer].name,
    malignant: (d) => (d.answer ? "yes, flagged as malignant" : "not flagged as malignant"),
  };
  list.replaceChildren(...Object.entries(decisions).flatMap(([name, d]) => {
    const term = Object.assign(document.createElement("dt"), { textContent: rules[name].question, title: `${name}: ${rules[name].how}` });
    return [term, Object.assign(document.createElement("dd"), { textContent: words[name](d) })];
  }));
}

function showRisk(scale, p) {
  scale.hidden = false;
  scale.classList.toggle("high", p.malignant);
  scale.querySelector("b").textContent = percent(p.malignant_probability);
  scale.querySelector(".fill").style.width = `${100 * p.malignant_probability}%`;
  scale.querySelector(".mark").style.left = `${100 * p.threshold}%`;
  const side = p.malignant ? "At or above" : "Below";
  const meaning = p.malignant ? "flagged as malignant" : "not flagged as malignant";
  scale.querySelector(".scale-note").textContent = `${side} the operating point of ${percent(p.threshold)}: ${meaning}.`;
}

function showBars(table, p) {
  table.hidden = false;
  const sorted = Object.entries(p.probabilities).sort((a, b) => b[1] - a[1]);
  table.tBodies[0].replaceChildren(...sorted.map(([code, share], i) => {
    const row = document.createElement("tr");
    row.className = i ? "" : "first";
    const name = Object.assign(document.createElement("th"), { scope: "row", textContent: classes[code].name });
    const plain = (classes[code].malignant ? "malignant: " : "") + classes[code].plain;
    name.append(Object.assign(document.createElement("small"), { textContent: plain }));
    const bar = Object.assign(document.createElement("i"), { className: classes[code].malignant ? "bar bad" : "bar" });
    bar.style.width = `${100 * share}%`;
    const cell = document.createElement("td");
    cell.setAttribute("aria-hidden", "true");
    cell.append(bar);
    row.append(name, cell, Object.assign(document.createElement("td"), { textContent: percent(share) }));
    return row;
  }));
}

function showHeat(card, png) {
  const heat = card.querySelector(".heat");
  const fade = card.querySelector(".fade");
  const photo = card.querySelector(".photo");
  heat.src = `data:image/png;base64,${png}`;
  heat.style.height = `${photo.clientHeight}px`;
  new ResizeObserver(() => { heat.style.height = `${photo.clientHeight}px`; }).observe(photo);
  heat.hidden = fade.hidden = false;
  card.querySelector(".caveat").hidden = readable;
  fade.querySelector("input").addEventListener("input", (e) => { heat.style.opacity = e.target.value / 100; });
}

function fail(card, message) {
  card.classList.add("failed");
  card.querySelector(".verdict").textContent = message;
}

$("files").addEventListener("change", (e) => { take(e.target.files); e.target.value = ""; });
$("clear").addEventListener("click", () => {
  for (const img of document.querySelectorAll(".photo")) URL.revokeObjectURL(img.src);
  $("results").replaceChildren();
  waiting = working ? waiting.slice(0, 1) : [];
  done = total = 0;
  $("clear").hidden = true;
  say("");
  $("files").focus();
});
$("access").addEventListener("submit", (e) => { e.preventDefault(); token = $("token").value; $("access").hidden = true; work(); });
for (const name of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(name, (e) => {
    e.preventDefault();
    $("drop").classList.toggle("over", name === "dragover");
    if (name === "drop") take(e.dataTransfer.files);
  });
}
document.addEventListener("paste", (e) => take(e.clipboardData.files));
