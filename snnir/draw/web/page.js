"use strict";
// The page: what is open, what is selected, its twins, search, keyboard. Comes last: it starts everything.

const data = JSON.parse(document.getElementById("data").textContent);
const keys = Object.keys(data.sides);
const other = (key) => keys.find((each) => each !== key);
const pictures = {}, views = {};
const page = {regions: data.regions, families: data.families};
const state = {scale: 1, selected: null, found: [], at: -1};
const $ = (id) => document.getElementById(id);

// -- opening modules ----------------------------------------------------------------------------------------------

function redraw(key, anchor = null) {
  const picture = pictures[key], before = anchor && rectOf(key, anchor);
  picture.draw();
  const after = anchor && rectOf(key, anchor);
  if (before && after) {  // what was clicked stays where it is
    views[key].x += (before.x - after.x) * state.scale;
    views[key].y += (before.y - after.y) * state.scale;
  }
  views[key].show();
  mark();
}

function rectOf(key, item) {
  const placed = pictures[key].placed;
  return placed.items.get(item) || placed.frames.find((frame) => `m${frame.path}` === item) || null;
}

function toggle(key, path) {
  const open = pictures[key].open;
  if (!open.delete(path)) open.add(path);
  redraw(key, `m${path}`);
  const element = pictures[key].elements.get(`m${path}`);
  if (element) element.focus({preventScroll: true});
}

function openAround(key, ids) {
  const picture = pictures[key], size = picture.open.size;
  for (const id of ids) for (const path of picture.side.nodes[id].modules) picture.open.add(path);
  if (picture.open.size !== size) redraw(key);
}

function openAll(open) {
  for (const key of keys) {
    pictures[key].open = new Set(open ? pictures[key].side.modules.map((module) => module.path) : [""]);
    redraw(key);
  }
  fit();
}

// -- selection ----------------------------------------------------------------------------------------------------

const members = (key, item) =>
  item[0] === "b" ? [item.slice(1)] : pictures[key].modules.get(item.slice(1)).members;

function twinsOf(key, item) {
  const found = new Set();
  if (other(key)) for (const id of members(key, item)) for (const twin of pictures[key].side.nodes[id].twins) found.add(twin);
  return [...found];
}

// options.go: bring it into view; options.region: a whole region is selected, its ops light up on both sides.
function select(key, item, options = {}) {
  state.selected = key === null ? null : {key, item};
  if (key !== null) {
    if (options.go) openAround(key, members(key, item).slice(0, item[0] === "b" ? 1 : 0));
    const rect = rectOf(key, item);
    if (options.go && rect) views[key].reveal(rect);
    const twins = twinsOf(key, item);
    if (twins.length && rect) {
      const twin = rectOf(other(key), pictures[other(key)].standIn(twins[0]));
      if (twin) views[other(key)].reveal(twin, views[key].y + (rect.y + rect.h / 2) * state.scale);
    }
    const hash = item[0] === "b" ? address(key, pictures[key].side.nodes[item.slice(1)].name) : "#";
    history.replaceState(null, "", hash);
  }
  mark();
  panel();
}

function selectRegion(number) {
  const region = data.regions[number];
  state.selected = {region: number};
  for (const key of keys) {
    openAround(key, region[key]);
    const rects = region[key].map((id) => rectOf(key, `b${id}`)).filter(Boolean);
    if (rects.length) views[key].reveal(rects.reduce((top, rect) => rect.y < top.y ? rect : top));
  }
  mark();
  panel();
}

// Classes and ARIA states of everything drawn, from the selection.
function mark() {
  const chosen = state.selected;
  for (const key of keys) {
    const picture = pictures[key], lit = new Set(), twins = new Set();
    if (chosen && chosen.region !== undefined) for (const id of data.regions[chosen.region][key]) twins.add(picture.standIn(id));
    else if (chosen && chosen.key === key) lit.add(chosen.item);
    else if (chosen) for (const id of twinsOf(chosen.key, chosen.item)) twins.add(picture.standIn(id));
    const hits = new Set(state.found.filter(([side]) => side === key).map(([, id]) => picture.standIn(id)));
    for (const [item, element] of picture.elements) {
      element.classList.toggle("selected", lit.has(item));
      element.classList.toggle("twin", twins.has(item));
      element.classList.toggle("hit", hits.has(item));
      if (element.hasAttribute("aria-pressed")) element.setAttribute("aria-pressed", String(lit.has(item)));
    }
    const ends = new Set(chosen && chosen.key === key ? members(key, chosen.item) : []);
    for (const line of picture.layer.querySelectorAll(".line")) {
      const {source, targets} = line.segment, inwards = [...targets].some((id) => ends.has(id));
      line.classList.toggle("near", ends.has(source) !== inwards || (ends.size === 1 && inwards));
    }
    picture.layer.classList.toggle("dimmed", Boolean(chosen && (lit.size || twins.size)));
  }
}

// -- search -------------------------------------------------------------------------------------------------------

function search(text) {
  const wanted = text.trim().toLowerCase();
  state.found = [];
  state.at = -1;
  if (wanted) {
    for (const key of keys) {
      for (const [id, node] of Object.entries(data.sides[key].nodes)) {
        if (node.search.includes(wanted)) state.found.push([key, id]);
      }
    }
  }
  $("count").textContent = wanted ? `${state.found.length} found` : "";
  mark();
}

function next(step) {
  if (!state.found.length) return;
  state.at = (state.at + step + state.found.length) % state.found.length;
  const [key, id] = state.found[state.at];
  select(key, `b${id}`, {go: true});
  $("count").textContent = `${state.at + 1} of ${state.found.length}`;
}

// -- events -------------------------------------------------------------------------------------------------------

function itemAt(event) {
  const element = event.target.closest("[data-item]");
  return element ? element.dataset.item : null;
}

function listen(key) {
  const svg = views[key].svg;
  svg.addEventListener("click", (event) => {
    if (views[key].moved) return;
    const item = itemAt(event), path = event.target.dataset.toggle;
    if (path !== undefined) toggle(key, path);
    else if (item) select(key, item);
    else {
      const region = event.target.closest("[data-region]");
      if (region) selectRegion(Number(region.dataset.region));
      else select(null);
    }
  });
  svg.addEventListener("dblclick", (event) => {
    const item = itemAt(event);
    if (item && item[0] === "m" && event.target.dataset.toggle === undefined) toggle(key, item.slice(1));
  });
  svg.addEventListener("keydown", (event) => {
    const item = itemAt(event);
    if (!item) return;
    if (event.key === "Enter" && item[0] === "m") toggle(key, item.slice(1));
    else if (event.key === "Enter" || event.key === " ") select(key, item);
    else if (event.key === "ArrowDown" || event.key === "ArrowUp") walk(key, item, event.key === "ArrowDown");
    else if (event.key === "ArrowLeft" || event.key === "ArrowRight") across(key, item);
    else return;
    event.preventDefault();
  });
}

function focus(key, item) {
  const element = pictures[key].elements.get(item), rect = rectOf(key, item);
  if (!element || !rect) return;
  element.focus({preventScroll: true});
  views[key].reveal(rect);
}

// Along the first edge that leads to another box.
function walk(key, item, down) {
  const inside = new Set(members(key, item));
  for (const id of inside) {
    const {before, after} = pictures[key].side.nodes[id];
    const near = (down ? after : before).find((one) => !inside.has(one));
    if (near !== undefined) return focus(key, pictures[key].standIn(near));
  }
}

function across(key, item) {
  const twins = twinsOf(key, item);
  if (twins.length) focus(other(key), pictures[other(key)].standIn(twins[0]));
}

document.addEventListener("keydown", (event) => {
  const typing = event.target === $("search");
  if (event.key === "Escape") {
    $("search").value = "";
    search("");
    select(null);
  } else if (typing && event.key === "Enter") next(event.shiftKey ? -1 : 1);
  else if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
  else if (event.key === "/") $("search").focus();
  else if (event.key === "+" || event.key === "=") zoom(1.2);
  else if (event.key === "-") zoom(1 / 1.2);
  else if (event.key === "0") fit(true);
  else return;
  event.preventDefault();
});

function legend() {
  document.querySelectorAll("#legend svg").forEach((svg, k) => {
    make("path", {class: "outline", d: outline(data.families[k].shape, 15, 1, 28, 16)}, null, svg);
  });
}

function start() {
  legend();
  for (const key of keys) {
    pictures[key] = new Picture(data.sides[key], key, page);
    pictures[key].draw();
    views[key] = new View(key);
    listen(key);
  }
  $("search").addEventListener("input", (event) => search(event.target.value));
  for (const [id, act] of Object.entries({
    "zoom-in": () => zoom(1.2), "zoom-out": () => zoom(1 / 1.2), "fit": () => fit(true),
    "open-all": () => openAll(true), "close-all": () => openAll(false),
  })) $(id).addEventListener("click", act);
  for (const button of document.querySelectorAll("#regions button")) {
    button.addEventListener("click", () => selectRegion(Number(button.dataset.region)));
  }
  fit();
  panel();
  mark();
  const [, key, name] = location.hash.match(/^#(\w+):(.*)$/) || [];
  const node = data.sides[key] && Object.entries(data.sides[key].nodes).find(([, each]) => each.name === safe(name));
  if (node) select(key, `b${node[0]}`, {go: true});
  document.documentElement.dataset.ready = "yes";
}

// Names need not be text that an address can hold: half a surrogate pair cannot.
function address(key, name) {
  try { return `#${key}:${encodeURIComponent(name)}`; } catch { return "#"; }
}

function safe(text) {
  try { return decodeURIComponent(text); } catch { return text; }
}

start();
