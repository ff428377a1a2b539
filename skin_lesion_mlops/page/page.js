"use strict";
// The page of the service: one request a picture, or a lesion, so that the first answer shows while the others are under way.

const $ = (id) => document.getElementById(id);
const number = (p) => (p > 0 && p < 0.001 ? "< 0.1 %" : p < 1 && p > 0.999 ? "> 99.9 %" : `${(100 * p).toFixed(1)} %`);
const percent = (p) => number(p).replace(/ /g, "\u00a0");
const WORDS = {
  empty: "The file is empty.",
  not_an_image: "This is not a picture. Choose JPEG or PNG files from the dermatoscope.",
  format_not_read: "This kind of picture cannot be read here. Export it as JPEG or PNG.",
  truncated: "The file is incomplete or damaged. Copy it from the dermatoscope again.",
  too_large: "The picture is too large. Export it smaller.",
  too_small: "The picture is too small to be read.",
  too_dark: "The picture is stored in a way that loses its brightness. Export it as JPEG or PNG.",
  body_too_large: "The files are too large to be sent. Send fewer, or export them smaller.",
  too_many_images: "These are too many pictures of one lesion.",
  bad_age: "This age is not one that a patient can have.",
  busy: "The service is busy. Try again in a minute.",
  client_busy: "The service is busy with your other pictures. Try again in a minute.",
};
let classes = {};
let features = {};
let rules = {};
let triage = {};
let limit = 25 << 20;
let token = "";
let waiting = [];
let jobs = [];
let working = false;
let asking = null;

function make(tag, text, attributes = {}) { return Object.assign(document.createElement(tag), { textContent: text, ...attributes }); }

async function about() {
  const facts = await (await fetch("/about")).json();
  classes = Object.fromEntries(facts.classes.map((c) => [c.code, c]));
  limit = facts.limits.bytes;
  ({ features, rules, triage } = facts);
  $("notice").textContent = facts.notice;
  $("access").hidden = !facts.limits.token;
  $("to-card").hidden = !facts.card;
  if (facts.patient) {
    $("patient").hidden = false;
    for (const name of ["sex", "site"]) $(name).append(...facts.patient[name].map((w) => make("option", w, { value: w })));
  }
  const m = facts.model;
  const rows = { Model: `version ${m.version}`, Network: m.arch, Engine: m.engine, Classes: m.classes, "Learned from": m.trained_on };
  if (m.threshold !== null) rows["Malignant from"] = percent(m.threshold);
  rows["Likeliest for"] = mixtures(m.mixture);
  if (m.triage) rows["Sets hold the truth in"] = percent(m.triage.coverage);
  $("model").replaceChildren(...Object.entries(rows).map(([k, v]) => {
    const row = document.createElement("div");
    row.append(make("dt", k), make("dd", v));
    return row;
  }));
}
const ready = about().catch(() => say("The service does not answer. Reload this page when it runs again."));

function mixtures(word) {
  if (word === "training") return "the mixture of its training images";
  return word === "stated" ? "this clinic's stated mixture" : `the mixture at ${word}`;
}

function say(text) { $("status").textContent = text; }

function take(list) {
  const files = [...list];
  if (!files.length) return;
  const told = Object.fromEntries(["age", "sex", "site"].map((n) => [n, $(n).value.trim()]).filter(([, v]) => v));
  for (const group of $("together").checked ? [files] : files.map((f) => [f])) {
    const job = { files: group, told, card: newCard(group), risk: -1, kind: "" };
    jobs.push(job);
    waiting.push(job);
  }
  $("overview").hidden = false;
  work();
}

function newCard(files) {
  const card = $("card").content.firstElementChild.cloneNode(true);
  card.querySelector(".photos").append(...files.map((file) => {
    const shot = $("shot").content.firstElementChild.cloneNode(true);
    const photo = shot.querySelector(".photo");
    photo.src = URL.createObjectURL(file);
    photo.alt = `The picture ${file.name}`;
    photo.onerror = () => { shot.querySelector(".look").hidden = true; };
    shot.querySelector(".look").addEventListener("click", () => {
      Object.assign($("zoom").querySelector("img"), { src: photo.src, alt: photo.alt });
      $("zoom").showModal();
    });
    return shot;
  }));
  card.querySelector("h2").textContent = files.length > 1 ? `${files.length} pictures of one lesion` : files[0].name;
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
    const job = waiting[0];
    say(`Analysing ${jobs.length - waiting.length + 1} of ${jobs.length}`);
    try {
      const answer = await ask(job);
      if (answer.token) { say(answer.token); $("access").hidden = false; $("token").focus(); break; }
      show(job, answer.predictions[0]);
    } catch (e) {
      if (e.name === "AbortError") continue;  // cleared meanwhile
      fail(job, e.message);
    }
    job.card.removeAttribute("aria-busy");
    waiting.shift();
    summarise();
  }
  working = false;
  if (!waiting.length) say(jobs.length ? `${jobs.length} of ${jobs.length} analysed` : "");
}

function message({ files, told }) {
  if (files.length === 1 && !Object.keys(told).length) {
    return { body: files[0], type: files[0].type === "image/png" ? "image/png" : "image/jpeg" };
  }
  const body = new FormData();
  for (const [name, value] of Object.entries(told)) body.append(name, value);
  if (files.length > 1) body.append("lesion", "lesion");
  for (const file of files) body.append("picture", file);
  return { body };
}

async function ask(job, attempt = 0) {
  const size = job.files.reduce((n, f) => n + f.size, 0);
  if (size > limit) throw new Error(`The file is larger than ${Math.floor(limit / 1048576)} MB.`);
  const { body, type } = message(job);
  const headers = { ...(type && { "Content-Type": type }), ...(token && { Authorization: `Bearer ${token}` }) };
  asking = new AbortController();
  const how = { method: "POST", headers, body, signal: asking.signal };
  const response = await fetch(`/invocations?explain=${$("explain").checked}`, how)
    .catch((e) => { throw e.name === "AbortError" ? e : new Error("The service does not answer."); });
  if (response.status === 429 && attempt < 30) {
    await new Promise((go) => setTimeout(go, 1000 * Number(response.headers.get("Retry-After") || 1)));
    if (!jobs.includes(job)) throw new DOMException("", "AbortError");
    return ask(job, attempt + 1);
  }
  const found = await response.json();
  if (response.status === 401) {
    return { token: found.error.reason === "wrong_token" ? "This token is not the service's. Check it, and enter it again." : "Enter the token to go on." };
  }
  if (!response.ok) throw new Error(WORDS[found.error.reason] || `This file cannot be used: ${found.error.detail}.`);
  return found;
}

function show(job, p) {
  const { card, files } = job;
  const heading = card.querySelector("h2");
  const verdict = card.querySelector(".verdict");
  heading.textContent = p.headline;
  card.querySelector(".file").textContent = files.map((f) => f.name).join(", ");
  showPictures(card, p);
  showNotes(card, p);
  const odd = p.out_of_distribution;
  if (odd.flag) {
    job.kind = "refused";
    card.classList.add("odd");
    const why = odd.reasons.length ? ` What is unusual: ${odd.reasons.map((r) => features[r] || r).join(", ")}.` : "";
    const again = "Take the picture again: through the dermatoscope, in focus, the lesion in the middle, and not from a screen or a print.";
    verdict.textContent = `The classes are withheld, because they would mean nothing.${why} ${again}`;
    return;
  }
  job.kind = p.malignant ? "flagged" : "unflagged";
  job.risk = p.malignant_probability ?? 0;
  card.classList.toggle("flagged", Boolean(p.malignant));
  const best = classes[p.predicted];
  verdict.textContent = `Likeliest: ${best.name}${best.plain ? ` (${best.plain})` : ""}, ${percent(p.decisions.likeliest.probability)}.`;
  if (p.triage) verdict.textContent += ` ${triageWords(p.triage)}`;
  showRules(card.querySelector(".rules"), p.decisions);
  if (p.malignant_probability !== null) showRisk(card.querySelector(".scale"), p);
  if (p.without_patient) showBeside(card.querySelector(".beside"), p.without_patient);
  showBars(card.querySelector(".bars"), p);
}

function triageWords(t) {
  const names = t.set.map((c) => classes[c].name).join(", ") || "nothing";
  const action = t.action ? `${t.action[0].toUpperCase()}${t.action.slice(1)}: ${triage[t.action]}. ` : "";
  return `${action}Not excluded, with ${percent(t.coverage)} coverage: ${names}.`;
}

function showBeside(block, p) {
  block.hidden = false;
  const flag = p.malignant === null ? "" : `, ${p.malignant ? "flagged" : "not flagged"}`;
  const risk = p.malignant_probability === null ? "" : `malignant ${percent(p.malignant_probability)}${flag}; `;
  const name = p.predicted ? classes[p.predicted].name : "none";
  block.textContent = `Without age, sex and site: ${risk}likeliest ${name}, ${percent(p.decisions.likeliest.probability)}.`;
}

function showNotes(card, p) {
  const list = card.querySelector(".notes");
  list.hidden = !p.notes;
  list.replaceChildren(...(p.notes || []).map((n) => make("li", n)));
}

function showRules(list, decisions) {
  list.hidden = false;
  const words = {
    likeliest: (d) => `${classes[d.answer].name}, ${percent(d.probability)} in ${mixtures(d.mixture)}`,
    balanced: (d) => classes[d.answer].name,
    malignant: (d) => (d.answer ? "yes, flagged as malignant" : "not flagged as malignant"),
  };
  const order = ["malignant", "likeliest", "balanced"].filter((n) => decisions[n]);
  list.replaceChildren(...order.flatMap((name) => {
    const term = make("dt", rules[name].question, { title: `${name}: ${rules[name].how}` });
    return [term, make("dd", words[name](decisions[name]))];
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
    const name = make("th", classes[code].name, { scope: "row" });
    const plain = (classes[code].malignant ? "malignant: " : "") + classes[code].plain;
    name.append(make("small", plain));
    const bar = Object.assign(document.createElement("i"), { className: classes[code].malignant ? "bar bad" : "bar" });
    bar.style.width = `${100 * share}%`;
    const cell = document.createElement("td");
    cell.setAttribute("aria-hidden", "true");
    cell.append(bar);
    row.append(name, cell, make("td", percent(share)));
    return row;
  }));
}

function showPictures(card, p) {
  const shots = [...card.querySelectorAll(".shot")];
  const fade = card.querySelector(".fade");
  (p.pictures || [p]).forEach((q, i) => {
    const caption = shots[i].querySelector("figcaption");
    caption.hidden = !(p.pictures && q.out_of_distribution.flag);
    caption.textContent = "left out";
    if (!q.overlay_png || q.out_of_distribution.flag) return;
    const heat = shots[i].querySelector(".heat");
    heat.src = `data:image/png;base64,${q.overlay_png}`;
    heat.hidden = fade.hidden = false;
    fade.querySelector("input").addEventListener("input", (e) => { heat.style.opacity = e.target.value / 100; });
  });
  if (!fade.hidden) caveat(card.querySelector(".caveat"));
}

async function caveat(line) {
  const m = (await (await fetch("/about")).json()).model;
  const cells = `The overlay has ${m.overlay_cells} x ${m.overlay_cells} cells over the whole picture: it shows roughly where the evidence was.`;
  line.hidden = false;
  line.textContent = m.readable_overlays ? cells : "In this network the overlay is not a reliable guide to places.";
}

function fail(job, text) {
  job.kind = "unusable";
  job.card.classList.add("failed");
  job.card.querySelector(".verdict").textContent = text;
}

function summarise() {
  const count = (kind) => jobs.filter((j) => j.kind === kind).length;
  const words = { flagged: "flagged", unflagged: "not flagged", refused: "without an answer", unusable: "not usable" };
  const parts = Object.entries(words).map(([k, w]) => [count(k), w]).filter(([n]) => n);
  $("summary").textContent = parts.map(([n, w]) => `${n} ${w}`).join(", ");
  const rank = (j) => ($("order").value === "arrival" ? jobs.indexOf(j) : -(j.kind === "flagged" ? 2 : j.kind === "refused" ? 1 : 0) - j.risk / 2);
  $("results").append(...[...jobs].sort((a, b) => rank(a) - rank(b)).map((j) => j.card));
}

$("order").addEventListener("change", summarise);
$("files").addEventListener("change", (e) => { take(e.target.files); e.target.value = ""; });
$("print").addEventListener("click", () => window.print());
window.addEventListener("beforeprint", () => {
  const facts = [new Date().toLocaleString(), $("reader").value && `read by ${$("reader").value}`, $("case").value && `case ${$("case").value}`];
  const model = [...$("model").querySelectorAll("div")].slice(0, 2).map((d) => [...d.children].map((x) => x.textContent).join(" ")).join(", ");
  $("letterhead").textContent = [...facts, model].filter(Boolean).join("; ");
});
$("clear").addEventListener("click", () => {
  for (const img of document.querySelectorAll(".photo")) URL.revokeObjectURL(img.src);
  $("results").replaceChildren();
  waiting = [];
  jobs = [];
  if (asking) asking.abort();
  $("overview").hidden = true;
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
