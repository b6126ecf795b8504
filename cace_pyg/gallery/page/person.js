"use strict";
let chosen = []; // images, two at most
let person = Number(new URLSearchParams(location.search).get("person")) || 1;

async function asked(path, values, options) {
  const response = await fetch(`${path}?${new URLSearchParams(values)}`, options);
  const told = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(told.error || `the server answered ${response.status}`);
  return told;
}

const file = (image) => image.split(/[\\/]/).pop();

function picture(sighting, words) {
  const image = make("img", { alt: "", src: `thumbnail?${new URLSearchParams({ image: sighting.image })}`, loading: "lazy" });
  const lines = words.filter(Boolean).map((text) => make("span", { class: "quiet", text }));
  const button = make("button", { type: "button", class: "hit", "aria-pressed": "false" }, image, ...lines);
  button.dataset.image = sighting.image;
  button.setAttribute("aria-label", `${file(sighting.image)}, ${words.filter(Boolean).join(", ")}`);
  button.addEventListener("click", () => choose(sighting.image));
  return make("li", {}, button);
}

function choose(image) {
  mark(chosen.includes(image) ? chosen.filter((other) => other !== image) : [...chosen, image].slice(-2));
}

function mark(images) {
  chosen = images;
  for (const button of document.querySelectorAll(".hit")) {
    const on = chosen.includes(button.dataset.image);
    button.classList.toggle("same", on);
    button.setAttribute("aria-pressed", `${on}`);
  }
  for (const id of ["same", "not_same"]) at(id).disabled = chosen.length < 2;
  at("chosen").textContent = chosen.length ? chosen.map(file).join(" and ") : "Choose two pictures to say whether they show one person.";
}

async function correct(same) {
  const [a, b] = chosen;
  say("Identifying everybody again …", "busy");
  try {
    const found = await asked("correct", { a, b, same }, { method: "POST" });
    person = found.a;
    history.replaceState(null, "", `person?person=${person}`);
    await show(`Stored. ${found.changed} pictures moved to another person.`);
  } catch (error) {
    say(error.message, "wrong");
  }
}

async function show(words = "") {
  const found = await asked("sightings", { person });
  at("title").textContent = document.title = `Person ${person}`;
  const cameras = new Map();
  for (const sighting of found.sightings) {
    const camera = sighting.camera ?? "";
    cameras.set(camera, [...(cameras.get(camera) || []), sighting]);
  }
  at("cameras").replaceChildren(...[...cameras].sort(([a], [b]) => a.localeCompare(b)).map(([camera, several]) => {
    const rows = several.map((sighting) => picture(sighting, [sighting.time?.replace("T", " "), `sure ${sighting.confidence.toFixed(2)}`]));
    const heading = make("h2", { text: camera ? `Camera ${camera}` : "Camera unknown" });
    return make("section", {}, heading, make("ol", {}, ...rows));
  }));
  at("pairs").replaceChildren(...found.resembling.flatMap(({ theirs, probability }) => {
    const shown = picture(theirs, [`person ${theirs.person}`, `${(100 * probability).toFixed(1)} %`, theirs.camera && `camera ${theirs.camera}`]);
    shown.append(make("a", { href: `person?person=${theirs.person}`, text: `person ${theirs.person}` }));
    return [shown];
  }));
  at("resembling").hidden = found.resembling.length === 0;
  at("say").hidden = !found.private;
  mark([]);
  const count = `${found.sightings.length} sightings in ${cameras.size} ${cameras.size === 1 ? "camera" : "cameras"}.`;
  say([words, count, "A join is no proof of identity."].filter(Boolean).join(" "));
}

at("same").addEventListener("click", () => correct("yes"));
at("not_same").addEventListener("click", () => correct("no"));
show().catch((error) => say(error.message, "wrong"));
