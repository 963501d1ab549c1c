"use strict";
// The page: two pictures at one scale, selection with twins, search, keyboard.

const data = JSON.parse(document.getElementById("data").textContent);
const keys = Object.keys(data.sides);
const other = (key) => keys.find((each) => each !== key);
const pictures = {}, views = {};
const page = {regions: data.regions, families: data.families};
const state = {scale: 1, selected: null, found: [], at: -1};
const $ = (id) => document.getElementById(id);

function html(tag, className = "", text = null, parent = null) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== null) element.textContent = text;
  if (parent) parent.append(element);
  return element;
}

// -- views: pan and zoom ------------------------------------------------------------------------------------------

class View {
  constructor(key) {
    this.key = key;
    this.svg = $(`${key}-svg`);
    this.x = this.y = 0;
    this.svg.append(pictures[key].layer);
    this.svg.addEventListener("wheel", (event) => this.wheel(event), {passive: false});
    this.svg.addEventListener("pointerdown", (event) => this.grab(event));
  }

  get size() {
    return [this.svg.clientWidth || 600, this.svg.clientHeight || 600];
  }

  show() {
    pictures[this.key].layer.setAttribute("transform", `translate(${this.x} ${this.y}) scale(${state.scale})`);
  }

  wheel(event) {
    event.preventDefault();
    const unit = event.deltaMode === 1 ? 16 : 1;
    if (event.ctrlKey || event.metaKey) {
      const box = this.svg.getBoundingClientRect();
      zoom(Math.exp(-event.deltaY * unit * 0.004), this.key, event.clientX - box.left, event.clientY - box.top);
    } else {
      this.x -= (event.shiftKey ? event.deltaY : event.deltaX) * unit;
      this.y -= (event.shiftKey ? 0 : event.deltaY) * unit;
      this.show();
    }
  }

  grab(event) {
    if (event.button !== 0) return;
    let [x, y, moved] = [event.clientX, event.clientY, 0];
    const move = (next) => {
      moved += Math.abs(next.clientX - x) + Math.abs(next.clientY - y);
      this.x += next.clientX - x;
      this.y += next.clientY - y;
      [x, y] = [next.clientX, next.clientY];
      this.moved = moved > 5;
      this.show();
    };
    const drop = () => {
      window.removeEventListener("pointermove", move);
      window.removeEventListener("pointerup", drop);
      window.removeEventListener("pointercancel", drop);
    };
    this.moved = false;
    window.addEventListener("pointermove", move);
    window.addEventListener("pointerup", drop);
    window.addEventListener("pointercancel", drop);
  }

  centre(rect, y = this.size[1] / 2) {
    this.x = this.size[0] / 2 - rect.x * state.scale;
    this.y = y - (rect.y + rect.h / 2) * state.scale;
    this.show();
  }

  // Moves only where the rectangle cannot be seen.
  reveal(rect, y) {
    const [w, h] = this.size, margin = 20;
    const left = this.x + (rect.x - rect.w / 2) * state.scale, top = this.y + rect.y * state.scale;
    const inside = left >= margin && top >= margin + 20 && left + rect.w * state.scale <= w - margin
      && top + rect.h * state.scale <= h - margin;
    if (!inside) this.centre(rect, y);
  }
}

function zoom(factor, key = null, x = null, y = null) {
  const scale = Math.min(4, Math.max(0.04, state.scale * factor));
  for (const view of Object.values(views)) {
    const [cx, cy] = view.key === key ? [x, y] : view.size.map((side) => side / 2);
    view.x = cx - (cx - view.x) * scale / state.scale;
    view.y = cy - (cy - view.y) * scale / state.scale;
  }
  state.scale = scale;
  for (const view of Object.values(views)) view.show();
}

// One scale for all sides: the widths fit, and the heights too as long as text can still be read.
function fit(whole = false) {
  const scales = keys.map((key) => {
    const {width, height} = pictures[key].placed, [w, h] = views[key].size;
    const wide = (w - 30) / width, high = (h - 50) / height;
    return whole ? Math.min(wide, high) : Math.min(wide, Math.max(high, 0.62));
  });
  state.scale = Math.min(1.15, Math.max(whole ? 0.04 : 0.34, Math.min(...scales)));
  for (const key of keys) {
    const {width, height} = pictures[key].placed, [w, h] = views[key].size;
    views[key].x = (w - width * state.scale) / 2;
    views[key].y = Math.max(26, (h - height * state.scale) / 2);
    views[key].show();
  }
}

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
    const hash = item[0] === "b" ? `#${key}:${encodeURIComponent(pictures[key].side.nodes[item.slice(1)].name)}` : "#";
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

// -- panel --------------------------------------------------------------------------------------------------------

function panel() {
  const place = $("details"), chosen = state.selected;
  place.replaceChildren();
  for (const button of document.querySelectorAll("#regions button")) {
    button.setAttribute("aria-pressed", String(Boolean(chosen) && Number(button.dataset.region) === regionOf(chosen)));
  }
  $("regions").classList.toggle("short", Boolean(chosen));
  if (!chosen) html("p", "hint", data.hint, place);
  else if (chosen.region !== undefined) regionPanel(place, chosen.region);
  else if (chosen.item[0] === "m") modulePanel(place, chosen.key, chosen.item.slice(1));
  else nodePanel(place, chosen.key, chosen.item.slice(1));
}

function regionOf(chosen) {
  if (chosen.region !== undefined) return chosen.region;
  return chosen.item[0] === "b" ? pictures[chosen.key].side.nodes[chosen.item.slice(1)].region : -1;
}

function nodePanel(place, key, id) {
  const node = pictures[key].side.nodes[id];
  html("h2", "", node.name, place);
  html("p", "what", node.what, place);
  table(place, node.facts);
  if (other(key)) twinList(place, key, `b${id}`);
  if (node.region >= 0) regionLine(place, node.region);
  said(place, node.said);
  if (node.parameters.length) {
    html("h3", "", "Parameters", place);
    table(place, node.parameters);
  }
  neighbours(place, key, id);
}

function modulePanel(place, key, path) {
  const module = pictures[key].modules.get(path);
  html("h2", "", path, place);
  html("p", "what", module.summary, place);
  const button = html("button", "", pictures[key].open.has(path) ? "close" : "open", place);
  button.addEventListener("click", () => { toggle(key, path); panel(); });
  table(place, module.facts);
  if (other(key)) twinList(place, key, `m${path}`);
  for (const number of new Set(module.members.map((id) => pictures[key].side.nodes[id].region))) {
    if (number >= 0) regionLine(place, number);
  }
}

function regionPanel(place, number) {
  const region = data.regions[number];
  html("h2", "", region.name, place);
  for (const key of keys) {
    html("h3", "", key, place);
    links(place, key, region[key]);
  }
  said(place, region.said);
}

function table(place, rows) {
  const body = html("table", "", null, place);
  for (const [name, value] of rows) {
    const row = html("tr", "", null, body);
    html("th", "", name, row).scope = "row";
    html("td", "", value, row);
  }
}

function links(place, key, ids) {
  const list = html("ul", "links", null, place);
  if (!ids.length) html("li", "none", "nothing", list);
  for (const id of ids) {
    const button = html("button", "", pictures[key].side.nodes[id].name, html("li", "", null, list));
    button.addEventListener("click", () => {
      select(key, `b${id}`, {go: true});
      const element = pictures[key].elements.get(`b${id}`);
      if (element) element.focus({preventScroll: true});
    });
  }
}

function twinList(place, key, item) {
  html("h3", "", `Twins ${other(key)}`, place);
  links(place, other(key), twinsOf(key, item));
}

function regionLine(place, number) {
  const line = html("p", "rewritten", "rewritten by ", place);
  const button = html("button", "", data.regions[number].name, line);
  button.style.setProperty("--pass", `var(--pass-${data.regions[number].colour})`);
  button.addEventListener("click", () => selectRegion(number));
}

function said(place, lines) {
  if (!lines.length) return;
  html("h3", "", "What the passes said", place);
  const list = html("ul", "said", null, place);
  for (const number of lines) {
    const line = data.said[number], item = html("li", line.kind, null, list);
    html("b", "", line.pass, item);
    item.append(` ${line.where}: ${line.kind === "declined" ? "declined: " : ""}${line.text}`);
  }
}

function neighbours(place, key, id) {
  const {before, after} = pictures[key].side.nodes[id];
  if (before.length) html("h3", "", "Reads", place);
  if (before.length) links(place, key, before);
  if (after.length) html("h3", "", "Is read by", place);
  if (after.length) links(place, key, after);
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

function safe(text) {
  try { return decodeURIComponent(text); } catch { return text; }
}

start();
