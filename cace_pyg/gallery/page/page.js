"use strict";
// One search at a time: the answer of an older one is ignored.
const FIGURES = ["correspondences", "conditional_maps"];
let picture = null;
let query = null;
let lists = { hits: [], first_stage: [] };
let shown = null; // { list, position } in the dialog
let searches = 0;
let calibration = null; // summary of the calibration
let drawing = new AbortController(); // stops drawing for a picture that is no longer shown

async function answered(response) {
  if (response.ok) return response;
  const told = await response.json().catch(() => ({}));
  throw new Error(told.error || `the server answered ${response.status}`);
}

async function start() {
  const stats = await (await answered(await fetch("stats"))).json();
  const where = stats.private ? "Only your machine can reach this page" : "Everybody who can reach this machine can search";
  at("about").textContent = `${stats.images.toLocaleString()} pictures. ${where}; your picture is not stored.`;
  for (const [camera, count] of Object.entries(stats.cameras)) {
    if (camera !== "unknown") at("camera").append(make("option", { value: camera, text: `${camera} (${count})` }));
  }
  for (const camera of stats.query_cameras) at("query_camera").append(make("option", { value: camera, text: `camera ${camera}` }));
  at("taken_by").hidden = stats.query_cameras.length === 0;
  calibration = stats.calibration;
  if (stats.warning) {
    at("warning").textContent = stats.warning;
    at("warning").hidden = false;
  }
  const columns = ["image", "camera", "time", ...Object.keys(stats.metadata)];
  const camera = Object.keys(stats.cameras).find((name) => name !== "unknown") || "1";
  at("columns").textContent = `SQL over ${columns.join(", ")}, such as camera IN (${quoted(camera)})`;
  if (!stats.times) return;
  for (const label of document.querySelectorAll(".time")) label.hidden = false;
  at("columns").textContent += `. Pictures were taken ${stats.times.join(" to ").replaceAll("T", " ")}.`;
}

function choose(file) {
  if (!file) return;
  at("why").close(); // it shows the previous search
  picture = file;
  URL.revokeObjectURL(at("preview").src);
  at("preview").src = URL.createObjectURL(file);
  at("preview").alt = `your picture ${file.name || ""}`;
  at("preview").hidden = false;
  at("invitation").hidden = true;
  search();
}

const quoted = (text) => `'${text.replaceAll("'", "''")}'`;

function moment(field) {
  const [day, clock] = at(field).value.split("T");
  return `timestamp ${quoted(`${day} ${clock.length === 5 ? `${clock}:00` : clock}`)}`; // browsers leave :00 out
}

function filter() {
  const camera = at("camera").value;
  const where = at("where").value.trim();
  const parts = [];
  if (camera) parts.push(`camera = ${quoted(camera)}`);
  if (at("from").value) parts.push(`time >= ${moment("from")}`);
  if (at("until").value) parts.push(`time <= ${moment("until")}`);
  if (where) parts.push(`(${where})`);
  return parts.join(" AND ");
}

async function search() {
  if (!picture) return say("Choose a picture first.", "wrong");
  const number = ++searches;
  say("Searching …", "busy");
  at("answer").setAttribute("aria-busy", "true");
  try {
    const asked = new URLSearchParams({ top_k: at("top_k").value, where: filter(), camera: at("query_camera").value });
    const response = await answered(await fetch(`search?${asked}`, { method: "POST", body: picture }));
    const found = await response.json();
    if (number !== searches) return;
    query = found.query;
    lists = found;
    for (const name of ["hits", "first_stage"]) show(name);
    drawLine();
    at("answer").hidden = false;
    const spent = Object.values(found.seconds).reduce((sum, seconds) => sum + seconds, 0);
    say(found.hits.length ? `${found.hits.length} nearest, in ${Math.round(1000 * spent)} ms.` : "Nothing found: no picture passes the filter.");
  } catch (error) {
    if (number !== searches) return;
    at("answer").hidden = true;
    say(error.message, "wrong");
  } finally {
    if (number === searches) at("answer").removeAttribute("aria-busy");
  }
}

function change(hit) {
  const up = hit.first_stage_rank - hit.rank;
  if (up > 0) return make("span", { class: "up", text: `▲${up}`, title: `up from ${hit.first_stage_rank}` });
  if (up < 0) return make("span", { class: "down", text: `▼${-up}`, title: `down from ${hit.first_stage_rank}` });
  return make("span", { class: "level", text: "=", title: "the same rank in both stages" });
}

const percent = (probability) => `${(100 * probability).toFixed(probability < 0.1 || probability > 0.9 ? 1 : 0)} %`;

// The line between likely and unlikely: probabilities never rise down the ranking, so it is between two hits.
function drawLine() {
  const rated = lists.hits.filter((hit) => typeof hit.probability === "number");
  at("line").hidden = rated.length === 0;
  for (const old of document.querySelectorAll(".divide")) old.remove();
  if (rated.length === 0) return;
  const from = at("likely").value / 100;
  const likely = rated.filter((hit) => hit.probability >= from).length;
  at("likely_value").textContent = `${at("likely").value} %`;
  const people = calibration ? ` Learned from ${calibration.people} people.` : "";
  const found = likely === 0 ? "Nobody here is likely." : `${likely} of ${lists.hits.length} likely.`;
  at("line_words").textContent = `${found}${people} A probability is no proof of identity: look at the pictures.`;
  const buttons = [...at("hits").querySelectorAll(".hit")];
  buttons.forEach((button, position) => button.classList.toggle("unlikely", position >= likely));
  if (likely < buttons.length) {
    const words = likely === 0 ? "all unlikely" : "unlikely from here on";
    buttons[likely].parentElement.before(make("li", { class: "divide", text: words }));
  }
}

function show(list) {
  at(list).replaceChildren(...lists[list].map((hit, position) => {
    const rank = make("span", { text: `${list === "hits" ? hit.rank : hit.first_stage_rank}` });
    const row = make("span", { class: "rank" }, rank, ...(list === "hits" ? [change(hit)] : []));
    const distance = (list === "hits" ? hit.distance : hit.individual).toFixed(3);
    const rated = list === "hits" && typeof hit.probability === "number" ? `${percent(hit.probability)} · ` : "";  // it is of both stages
    const place = `${rated}${distance}${hit.camera ? ` · camera ${hit.camera}` : ""}`;
    const image = make("img", { alt: "", src: `thumbnail?${new URLSearchParams({ image: hit.image })}`, loading: "lazy" });
    const button = make("button", { type: "button", class: "hit" }, image, row, make("span", { class: "quiet", text: place }));
    button.dataset.image = hit.image;
    button.setAttribute("aria-label", `rank ${rank.textContent}, ${name(hit)}, ${place}: why?`);
    button.addEventListener("click", () => explain(list, position));
    for (const event of ["mouseenter", "focus"]) button.addEventListener(event, () => mark(hit.image));
    for (const event of ["mouseleave", "blur"]) button.addEventListener(event, () => mark(null));
    return make("li", {}, button);
  }));
}

function mark(image) {
  for (const button of document.querySelectorAll(".hit")) button.classList.toggle("same", button.dataset.image === image);
}

const name = (hit) => hit.image.split(/[\\/]/).pop();

function explain(list, position) {
  const hit = lists[list][position];
  shown = { list, position };
  at("why_title").textContent = `${hit.rank}. ${name(hit)}`;
  const facts = {
    "rank, both stages": hit.rank, "rank, first stage": hit.first_stage_rank,
    "probability, same person": typeof hit.probability === "number" ? percent(hit.probability) : null,
    "individual distance": hit.individual.toFixed(3),
    "conditional distance": hit.conditional === null ? "–" : hit.conditional.toFixed(3),
    "ranked by": hit.distance.toFixed(3), camera: hit.camera, time: hit.time?.replace("T", " "), ...hit.metadata, file: hit.image,
  };
  at("facts").replaceChildren(...Object.entries(facts).filter(([, value]) => value !== null && value !== undefined)
    .map(([term, value]) => make("div", term === "file" ? { class: "whole" } : {}, make("dt", { text: term }), make("dd", { text: `${value}` }))));
  at("whose").hidden = typeof hit.metadata.person !== "number";
  at("whose").href = `person?person=${hit.metadata.person}`;
  at("whose").textContent = `All sightings of person ${hit.metadata.person}`;
  drawing.abort();
  drawing = new AbortController();
  for (const figure of FIGURES) draw(figure, hit.image, drawing.signal);
  at("previous").disabled = position === 0;
  at("next").disabled = position === lists[list].length - 1;
  if (!at("why").open) at("why").showModal();
  if (document.activeElement.disabled) at("close").focus(); // a button that is disabled would lose the focus
}

async function draw(figure, image, signal) {
  const told = at(figure).parentElement.nextElementSibling;
  URL.revokeObjectURL(at(figure).src);
  at(figure).removeAttribute("src");
  at(figure).hidden = true;
  told.textContent = "Drawing …";
  told.className = "drawing busy";
  try {
    await new Promise((done) => setTimeout(done, 150)); // no request when just stepping through the pictures
    if (signal.aborted) return;
    const response = await answered(await fetch(`explain?${new URLSearchParams({ query, image, figure })}`, { signal }));
    const drawn = URL.createObjectURL(await response.blob());
    if (signal.aborted) return URL.revokeObjectURL(drawn);
    at(figure).src = drawn;
    at(figure).hidden = false;
    told.textContent = "";
    told.className = "drawing";
  } catch (error) {
    if (signal.aborted) return;
    told.textContent = error.message;
    told.className = "drawing wrong";
  }
}

function step(by) {
  const position = shown.position + by;
  if (position >= 0 && position < lists[shown.list].length) explain(shown.list, position);
}

function closed() {
  drawing.abort();
  const { list, position } = shown;
  at(list).querySelectorAll(".hit")[position]?.focus();
}

at("likely").addEventListener("input", drawLine);
at("ask").addEventListener("submit", (event) => { event.preventDefault(); search(); });
at("picture").addEventListener("change", () => choose(at("picture").files[0]));
for (const field of ["camera", "query_camera", "top_k"]) at(field).addEventListener("change", () => picture && search());
for (const event of ["dragenter", "dragover"]) {
  document.addEventListener(event, (dragged) => { dragged.preventDefault(); at("drop").classList.add("over"); });
}
for (const event of ["dragleave", "drop"]) document.addEventListener(event, () => at("drop").classList.remove("over"));
document.addEventListener("drop", (event) => { event.preventDefault(); choose(event.dataTransfer.files[0]); });
document.addEventListener("paste", (event) => choose([...event.clipboardData.files].find((file) => file.type.startsWith("image/"))));
at("close").addEventListener("click", () => at("why").close());
at("previous").addEventListener("click", () => step(-1));
at("next").addEventListener("click", () => step(1));
at("why").addEventListener("close", closed);
at("why").addEventListener("click", (event) => { if (event.target === at("why")) at("why").close(); });
document.addEventListener("keydown", (event) => {
  const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (!by) return;
  if (at("why").open) return event.target.closest(".figure") || step(by); // a wide figure scrolls by arrow keys
  const hits = [...document.querySelectorAll(".hit")];
  const position = hits.indexOf(document.activeElement);
  if (position >= 0) { event.preventDefault(); hits[position + by]?.focus(); }
});
start().catch((error) => say(error.message, "wrong"));
