"use strict";
// Coordinates of one side. Rows, orders and ways are given (snnir/draw/nest.py); sizes depend on what is open.

const GAP = {row: 34, gate: 14, box: 24, line: 11, pad: 14, head: 34, loop: 22};

function placeSide(side, open) {
  const modules = new Map(side.modules.map((module) => [module.path, module]));
  const placed = new Map();
  const place = (path) => {
    const rows = new Rows(modules.get(path), modules, side.nodes, open, place);
    placed.set(path, rows);
    return rows;
  };
  const root = place("");
  const found = {width: root.width, height: root.height, items: new Map(), frames: [], segments: []};
  root.draw(0, 0, placed, found);
  return found;
}

function size(name, modules, nodes, open, place) {
  const kind = name[0], id = name.slice(1);
  if (kind === "b") return {w: nodes[id].width + (nodes[id].loop ? 2 * GAP.loop : 0), h: nodes[id].height};
  if (kind !== "m") return {w: 2, h: 0, thin: true};
  if (!open.has(id)) return {w: modules.get(id).width, h: modules.get(id).height};
  const inner = place(id);
  return {w: inner.width + 2 * GAP.pad, h: inner.height + GAP.head + GAP.pad, inner};
}

class Rows {
  constructor(module, modules, nodes, open, place) {
    this.module = module;
    this.items = new Map();
    for (const [rank, row] of module.rows.entries()) {
      for (const name of row) this.items.set(name, {name, rank, up: [], down: [], ...size(name, modules, nodes, open, place)});
    }
    this.rows = module.rows.map((row) => row.map((name) => this.items.get(name)));
    this.join();
    this.spread();
    this.finish();
  }

  // Where a value leaves or enters an item, from its centre.
  offset(item, source, side) {
    const gate = item.inner && item.inner.items.get(side + source);
    return gate ? gate.x - item.inner.width / 2 : 0;
  }

  join() {
    const seen = new Set();
    for (const way of this.module.ways) {
      for (let i = 1; i < way.items.length; i++) {
        const a = this.items.get(way.items[i - 1]), b = this.items.get(way.items[i]);
        const key = [a.name, b.name, way.source].join("\n");
        if (seen.has(key)) continue;
        seen.add(key);
        const weight = [1, 2, 8][(a.thin ? 1 : 0) + (b.thin ? 1 : 0)];
        const shift = this.offset(a, way.source, "o") - this.offset(b, way.source, "i");
        a.down.push({to: b, weight, shift: -shift});
        b.up.push({to: a, weight, shift});
      }
    }
  }

  distance(a, b) {
    const gap = a.thin && b.thin ? GAP.line : a.thin || b.thin ? (GAP.line + GAP.box) / 2 : GAP.box;
    return (a.w + b.w) / 2 + gap;
  }

  spread() {
    for (const row of this.rows) {
      row.forEach((item, k) => { item.x = k ? row[k - 1].x + this.distance(row[k - 1], item) : 0; });
    }
    const turns = 16;
    for (let turn = 0; turn < turns; turn++) {
      const sides = turn >= turns - 4 ? ["up", "down"] : turn % 2 ? ["down"] : ["up"];
      for (const row of turn % 2 ? [...this.rows].reverse() : this.rows) this.relax(row, sides);
    }
    const columns = this.columns();
    for (let turn = 0; turn < 4; turn++) for (const column of columns) this.straighten(column);
  }

  relax(row, sides) {
    const values = [], weights = [], shifts = [];
    let shift = 0;
    row.forEach((item, k) => {
      if (k) shift += this.distance(row[k - 1], item);
      let total = 0, sum = 0;
      for (const side of sides) {
        for (const near of item[side]) { total += near.weight; sum += near.weight * (near.to.x + near.shift); }
      }
      values.push((total ? sum / total : item.x) - shift);
      weights.push(total || 0.05);
      shifts.push(shift);
    });
    monotone(values, weights).forEach((value, k) => { row[k].x = value + shifts[k]; });
  }

  // Items that should stand exactly below one another: helpers of one line first, then boxes with one way through.
  columns() {
    const below = new Map(), above = new Map(), pairs = [];
    for (const item of this.items.values()) for (const near of item.down) pairs.push([item, near]);
    const sole = ([item, near]) => item.down.length === 1 && near.to.up.length === 1;
    const far = ([item, near]) => Math.abs(near.to.x + near.shift - item.x);
    pairs.sort((p, q) => q[1].weight - p[1].weight || sole(q) - sole(p) || far(p) - far(q));
    for (const [item, near] of pairs) {
      if (below.has(item) || above.has(near.to) || (near.weight < 8 && near.weight > 1 && far([item, near]) > 40)) continue;
      below.set(item, near);
      above.set(near.to, item);
    }
    const columns = [];
    for (const item of this.items.values()) {
      if (above.has(item)) continue;
      const column = [{item, at: 0}];
      for (let last = item; below.has(last);) {
        const near = below.get(last);
        column.push({item: near.to, at: column[column.length - 1].at - near.shift});
        last = near.to;
      }
      if (column.length > 1) columns.push(column);
    }
    return columns.sort((a, b) => b.length - a.length);
  }

  // One x for a column where there is room; else for its halves.
  straighten(column) {
    if (column.length < 2) return;
    let low = -Infinity, high = Infinity, sum = 0;
    for (const {item, at} of column) {
      const row = this.rows[item.rank], k = row.indexOf(item);
      if (k) low = Math.max(low, row[k - 1].x + this.distance(row[k - 1], item) - at);
      if (k + 1 < row.length) high = Math.min(high, row[k + 1].x - this.distance(item, row[k + 1]) - at);
      sum += item.x - at;
    }
    if (low > high + 1e-6) {
      const half = column.length >> 1;
      this.straighten(column.slice(0, half));
      this.straighten(column.slice(half));
      return;
    }
    const x = Math.min(Math.max(sum / column.length, low), high);
    for (const {item, at} of column) item.x = x + at;
  }

  finish() {
    const all = [...this.items.values()];
    this.width = this.height = 0;
    if (!all.length) return;
    const left = Math.min(...all.map((item) => item.x - item.w / 2));
    for (const item of all) item.x -= left;
    const title = this.module.titleWidth;
    this.width = Math.max(...all.map((item) => item.x + item.w / 2), title);
    const slack = (this.width - Math.max(...all.map((item) => item.x + item.w / 2))) / 2;
    for (const item of all) item.x += slack;
    let y = 0;
    this.rows.forEach((row, k) => {
      const height = Math.max(...row.map((item) => item.h));
      const thin = row.every((item) => item.thin);
      if (k) y += thin || this.rows[k - 1].every((item) => item.thin) ? GAP.gate : GAP.row;
      for (const item of row) item.y = y + (item.thin ? 0 : (height - item.h) / 2);
      for (const item of row) if (item.thin) item.h = height;
      y += height;
    });
    this.height = y;
  }

  // Absolute rectangles, frames and line segments.
  draw(dx, dy, placed, found) {
    const arrivals = this.arrivals();
    for (const item of this.items.values()) {
      if (item.thin) continue;
      const rect = {x: item.x + dx, y: item.y + dy, w: item.w, h: item.h};
      if (item.inner) {
        found.frames.push({path: item.name.slice(1), ...rect});
        item.inner.draw(rect.x - item.inner.width / 2, rect.y + GAP.head, placed, found);
      } else found.items.set(item.name, rect);
    }
    const seen = new Map();
    this.module.ways.forEach((way, k) => {
      for (let i = 1; i < way.items.length; i++) {
        const a = this.items.get(way.items[i - 1]), b = this.items.get(way.items[i]);
        const last = i === way.items.length - 1;
        const shift = last && !b.thin && !b.inner ? arrivals[k] : this.offset(b, way.source, "i");
        // Lines go on through the border of an open module, to its gates.
        const from = [a.x + this.offset(a, way.source, "o") + dx, a.y + a.h + dy];
        const to = [b.x + shift + dx, b.y + dy];
        const key = [way.source, ...from, ...to].join(" ");
        const through = [];
        if (a.inner) through.push([[from[0], a.y + a.h - GAP.pad + dy], from]);
        if (b.inner) through.push([to, [to[0], b.y + GAP.head + dy]]);
        if (b.thin && b.h) through.push([to, [to[0], to[1] + b.h]]);
        if (!seen.has(key)) {
          seen.set(key, {source: way.source, targets: new Set(), from, to, through, head: last && !b.thin && !b.inner,
                         port: last ? way.port : ""});
          found.segments.push(seen.get(key));
        }
        for (const target of way.targets) seen.get(key).targets.add(target);
      }
    });
  }

  // Several lines into one box arrive side by side.
  arrivals() {
    const into = new Map();
    this.module.ways.forEach((way, k) => {
      const end = way.items[way.items.length - 1];
      if (!into.has(end)) into.set(end, []);
      into.get(end).push(k);
    });
    const shifts = [];
    for (const [end, several] of into) {
      const x = (k) => {
        const items = this.module.ways[k].items, a = this.items.get(items[items.length - 2]);
        return a.x + this.offset(a, this.module.ways[k].source, "o");
      };
      several.sort((p, q) => x(p) - x(q));
      const ported = several.some((k) => this.module.ways[k].port);
      const step = Math.min(ported ? 40 : 20, this.items.get(end).w * 0.6 / Math.max(1, several.length - 1));
      several.forEach((k, n) => { shifts[k] = (n - (several.length - 1) / 2) * step; });
    }
    return shifts;
  }
}

// The nondecreasing sequence nearest to `values` in weighted least squares (pool adjacent violators).
function monotone(values, weights) {
  const blocks = [];
  values.forEach((start, k) => {
    let value = start, weight = weights[k], count = 1;
    while (blocks.length && blocks[blocks.length - 1].value > value) {
      const last = blocks.pop();
      value = (value * weight + last.value * last.weight) / (weight + last.weight);
      weight += last.weight;
      count += last.count;
    }
    blocks.push({value, weight, count});
  });
  return blocks.flatMap(({value, count}) => Array(count).fill(value));
}
