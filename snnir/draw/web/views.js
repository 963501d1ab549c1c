"use strict";
// Pan and zoom: one view per side, one scale for all.

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
