"use strict";
// One side as SVG: frames, regions, lines, boxes. It knows nothing of selections or windows.

const SVG = "http://www.w3.org/2000/svg";

function make(tag, attributes = {}, text = null, parent = null) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== null) element.textContent = text;
  if (parent) parent.append(element);
  return element;
}

class Picture {
  // `page` answers what depends on both sides: the region of an op, colours of passes.
  constructor(side, key, page) {
    this.side = side;
    this.key = key;
    this.page = page;
    this.modules = new Map(side.modules.map((module) => [module.path, module]));
    this.open = new Set(side.modules.filter((module) => module.open).map((module) => module.path));
    this.layer = make("g");
  }

  // The element that stands for an op: its box, or the closed module it lies in.
  standIn(id) {
    const path = this.side.nodes[id].modules.find((module) => !this.open.has(module));
    return path === undefined ? `b${id}` : `m${path}`;
  }

  domId(item) {
    return item[0] === "b" ? `${this.key}-${item.slice(1)}` : `${this.key}-module-${this.modules.get(item.slice(1)).number}`;
  }

  draw() {
    this.placed = placeSide(this.side, this.open);
    this.layer.replaceChildren();
    this.elements = new Map();
    for (const frame of this.placed.frames) this.frame(frame);
    this.regions();
    this.lines();
    for (const [item, rect] of this.placed.items) {
      this.elements.set(item, item[0] === "b" ? this.box(item.slice(1), rect) : this.closed(item.slice(1), rect));
    }
  }

  frame({path, x, y, w, h}) {
    const module = this.modules.get(path);
    const group = make("g", {class: "frame", id: this.domId(`m${path}`), "data-item": `m${path}`, tabindex: 0, role: "button",
                             "aria-expanded": "true", "aria-label": `module ${path}, ${module.ops} ops, open`, ...tinted(module)}, null, this.layer);
    make("rect", {x: x - w / 2, y, width: w, height: h, rx: 8}, null, group);
    make("rect", {class: "chip", "data-toggle": path, x: x - w / 2 + 6, y: y + 5, width: 14, height: 14, rx: 3}, null, group);
    make("path", {class: "sign", d: `M${x - w / 2 + 9.5} ${y + 12}h7`}, null, group);
    make("text", {x: x - w / 2 + 26, y: y + 16, "data-toggle": path}, module.label, group);
    this.elements.set(`m${path}`, group);
  }

  regions() {
    const layer = make("g", {class: "regions"}, null, this.layer);
    for (const [number, region] of this.page.regions.entries()) {
      const members = new Set(region[this.key].filter((id) => this.standIn(id) === `b${id}`));
      if (!members.size) continue;
      const group = make("g", {class: "region", "data-region": number, style: `--pass: var(--pass-${region.colour})`}, null, layer);
      const rects = [...members].map((id) => [id, this.placed.items.get(`b${id}`)]);
      const ways = this.placed.segments.filter((s) => members.has(s.source) && [...s.targets].some((t) => members.has(t)));
      // The outline of a union: all parts a little larger in the outline's colour, then all parts again in the fill's.
      for (const [name, more] of [["edge", 1.6], ["fill", 0]]) {
        for (const segment of ways) {
          make("path", {class: name, d: segmentPath(segment), "stroke-width": 16 + 2 * more}, null, group);
        }
        for (const [, r] of rects) {
          make("rect", {class: name, x: r.x - r.w / 2 - 7 - more, y: r.y - 7 - more, width: r.w + 14 + 2 * more,
                        height: r.h + 14 + 2 * more, rx: 12 + more}, null, group);
        }
      }
      for (const [id, r] of this.islands(rects, ways)) {
        make("text", {x: r.x - r.w / 2 - 2, y: r.y - 11, "data-of": id}, fitting(region.name, r.w + GAP.box), group);
      }
    }
  }

  // The topmost box of each connected part.
  islands(rects, ways) {
    const up = new Map(rects.map(([id]) => [id, id]));
    const find = (id) => up.get(id) === id ? id : find(up.get(id));
    for (const way of ways) for (const target of way.targets) if (up.has(target)) up.set(find(target), find(way.source));
    const tops = new Map();
    for (const [id, r] of rects) {
      const root = find(id);
      if (!tops.has(root) || r.y < tops.get(root)[1].y) tops.set(root, [id, r]);
    }
    return tops.values();
  }

  lines() {
    const layer = make("g", {class: "lines"}, null, this.layer);
    for (const segment of this.placed.segments) {
      const group = make("g", {class: "line", "data-source": segment.source}, null, layer);
      group.segment = segment;
      make("path", {d: segmentPath(segment)}, null, group);
      if (segment.head) {
        const [x, y] = segment.to;
        make("path", {class: "head", d: `M${x} ${y}l-3.4 -8h6.8z`}, null, group);
      }
      if (segment.port) make("text", {x: segment.to[0] + 5, y: segment.to[1] - 5}, segment.port, group);
    }
    for (const [source, target] of this.side.late) this.late(source, target, layer);
  }

  late(source, target, layer) {
    const [a, b] = [this.standIn(source), this.standIn(target)];
    if (a === b && a[0] === "m") return;
    const r = this.placed.items.get(a), s = this.placed.items.get(b);
    const side = (rect, item) => rect.x + rect.w / 2 - (item[0] === "b" && this.side.nodes[item.slice(1)].loop ? GAP.loop : 0);
    const [x0, x1] = [side(r, a), side(s, b)];
    const [y0, y1] = a === b ? [r.y + r.h * 0.75, r.y + r.h * 0.25] : [r.y + r.h / 2, s.y + s.h / 2];
    let lane = Math.max(x0, x1) + 16;
    if (a !== b) {
      for (const rect of this.placed.items.values()) {
        if (rect.y < Math.max(y0, y1) && rect.y + rect.h > Math.min(y0, y1)) lane = Math.max(lane, rect.x + rect.w / 2 + 14);
      }
    }
    const group = make("g", {class: "line late", "data-source": source}, null, layer);
    group.segment = {source, targets: new Set([target])};
    make("path", {d: `M${x0} ${y0}C${lane + 4} ${y0} ${lane} ${y0} ${lane} ${(y0 + y1) / 2}S${lane + 4} ${y1} ${x1 + 6} ${y1}`}, null, group);
    make("path", {class: "head", d: `M${x1} ${y1}l8 -3.4v6.8z`}, null, group);
    make("text", {x: lane + 3, y: (y0 + y1) / 2 + 3}, "z⁻¹", group);
  }

  box(id, rect) {
    const node = this.side.nodes[id];
    const group = make("g", {class: `node family-${node.family} shape-${this.page.families[node.family].shape}`, id: this.domId(`b${id}`), "data-item": `b${id}`, tabindex: 0,
                             role: "button", "aria-pressed": "false",
                             "aria-label": `${node.name}, ${node.what}, ${node.shape}`}, null, this.layer);
    make("title", {}, `${node.name}\n${node.what}\n${node.shape}${node.tip && "\n"}${node.tip}`, group);
    make("path", {class: "outline", d: outline(this.page.families[node.family].shape, rect.x, rect.y, node.width, node.height)}, null, group);
    make("text", {class: "name", x: rect.x, y: rect.y + 17}, node.label, group);
    make("text", {x: rect.x, y: rect.y + 31}, node.whatShort, group);
    make("text", {class: "faint", x: rect.x, y: rect.y + 44}, node.size, group);
    return group;
  }

  closed(path, rect) {
    const module = this.modules.get(path), {x, y, w, h} = rect;
    const group = make("g", {class: "module", id: this.domId(`m${path}`), "data-item": `m${path}`, tabindex: 0, role: "button",
                             "aria-expanded": "false", "aria-label": `module ${path}, ${module.ops} ops, closed`, ...tinted(module)}, null, this.layer);
    make("title", {}, `${path}\n${module.summary}\ndouble click or Enter opens it`, group);
    make("rect", {class: "behind", x: x - w / 2 + 4, y: y + 4, width: w - 4, height: h - 4, rx: 8}, null, group);
    make("rect", {class: "outline", x: x - w / 2, y, width: w - 4, height: h - 4, rx: 8}, null, group);
    make("rect", {class: "chip", "data-toggle": path, x: x - w / 2 + 6, y: y + 6, width: 14, height: 14, rx: 3}, null, group);
    make("path", {class: "sign", d: `M${x - w / 2 + 9.5} ${y + 13}h7m-3.5 -3.5v7`}, null, group);
    make("text", {class: "name", x: x + 6, y: y + 18}, module.label, group);
    make("text", {x: x - 2, y: y + 33}, module.summary, group);
    make("text", {class: "faint", x: x - 2, y: y + 46}, module.size, group);
    this.dots(path, rect, group);
    return group;
  }

  // One dot per pass that rewrote something inside.
  dots(path, {x, y, w, h}, group) {
    const inside = new Map();
    for (const id of this.modules.get(path).members) {
      const region = this.page.regions[this.side.nodes[id].region];
      if (region) inside.set(region.colour, region.name);
    }
    let n = 0;
    for (const [colour, name] of inside) {
      const dot = make("circle", {class: "dot", cx: x + w / 2 - 13 - 11 * n++, cy: y + 11, r: 4, style: `--pass: var(--pass-${colour})`}, null, group);
      make("title", {}, `${name} inside`, dot);
    }
  }
}

// The colour of a frame that says where its ops are.
function tinted({tint}) {
  return tint ? {style: `--frame-line: ${tint}; --frame: ${tint}12; --module-line: ${tint}; --module: ${tint}2e`} : {};
}

// As much of a label as has room above a box; all of it is in the panel.
function fitting(text, width) {
  const most = Math.floor(width / 5.9);
  return text.length <= most ? text : `${text.slice(0, Math.max(1, most - 1))}…`;
}

function segmentPath({from, to, through}) {
  const middle = (from[1] + to[1]) / 2;
  let path = `M${from[0]} ${from[1]}C${from[0]} ${middle} ${to[0]} ${middle} ${to[0]} ${to[1]}`;
  for (const [a, b] of through) path += `M${a[0]} ${a[1]}L${b[0]} ${b[1]}`;
  return path;
}

function outline(shape, x, y, w, h) {
  const l = x - w / 2, r = x + w / 2, b = y + h, m = y + h / 2;
  const cut = Math.min({octagon: 12, hexagon: 16, slanted: 16}[shape] || 0, h * 0.45);
  if (shape === "hexagon") return `M${l + cut} ${y}H${r - cut}L${r} ${m}L${r - cut} ${b}H${l + cut}L${l} ${m}Z`;
  if (shape === "slanted") return `M${l + cut} ${y}H${r}L${r - cut} ${b}H${l}Z`;
  if (shape === "octagon") {
    return `M${l + cut} ${y}H${r - cut}L${r} ${y + cut}V${b - cut}L${r - cut} ${b}H${l + cut}L${l} ${b - cut}V${y + cut}Z`;
  }
  const c = Math.min({pill: h / 2, round: 14}[shape] || 2, h / (shape === "pill" ? 2 : 2.6));
  const arc = (dx, dy) => `a${c} ${c} 0 0 1 ${dx} ${dy}`;
  let path = `M${l + c} ${y}H${r - c}${arc(c, c)}V${b - c}${arc(-c, c)}H${l + c}${arc(-c, -c)}V${y + c}${arc(c, -c)}Z`;
  if (shape === "notched") path += `M${l + 6} ${y}V${b}M${r - 6} ${y}V${b}`;
  return path;
}
