// Values under the pointer. The page says everything without it.
for (const svg of document.querySelectorAll("svg.lines")) {
  const axis = name => {
    const [from, to, lo, hi, log] = svg.dataset[name].split(",").map(Number);
    return pos => {
      const t = (pos - from) / (to - from);
      return log ? 10 ** (Math.log10(lo) + t * (Math.log10(hi) - Math.log10(lo))) : lo + t * (hi - lo);
    };
  };
  const xOf = axis("x"), yOf = axis("y"), percent = svg.dataset.percent === "1";
  const box = svg.viewBox.baseVal, figure = svg.parentNode;
  const lines = [...svg.querySelectorAll(".line")].map(path => {
    const flat = (path.getAttribute("d").match(/[\d.]+/g) || []).map(Number), points = [];
    for (let i = 0; i < flat.length; i += 2) points.push([flat[i], flat[i + 1]]);
    return {name: path.dataset.name, css: path.parentNode.getAttribute("class"), points};
  }).filter(line => line.points.length);
  if (!lines.length) continue;
  const cursor = document.createElementNS("http://www.w3.org/2000/svg", "path");
  const tip = document.createElement("div");
  cursor.setAttribute("class", "cursor");
  tip.className = "tip";
  const text = v => percent ? (100 * v).toFixed(2) + " %"
    : Math.abs(v) < 1e-3 && v !== 0 ? v.toExponential(2) : Number(v.toPrecision(4)).toString();
  const leave = () => { cursor.remove(); tip.remove(); };
  const move = event => {
    const area = svg.getBoundingClientRect(), scale = box.width / area.width;
    const at = (event.clientX - area.left) * scale;
    const near = lines.map(line => line.points.reduce((a, b) => Math.abs(b[0] - at) < Math.abs(a[0] - at) ? b : a));
    const x = near.reduce((a, b) => Math.abs(b[0] - at) < Math.abs(a[0] - at) ? b : a)[0];
    cursor.setAttribute("d", `M${x} 14V256`);
    svg.append(cursor);
    tip.textContent = Math.round(xOf(x)).toLocaleString("en");
    lines.forEach((line, i) => {
      if (Math.abs(near[i][0] - x) > 12) return;
      const row = document.createElement("div"), dot = document.createElement("i");
      row.className = line.css;
      row.append(dot, `${line.name}: ${text(yOf(near[i][1]))}`);
      tip.append(row);
    });
    figure.append(tip);
    const left = svg.offsetLeft || area.left - figure.getBoundingClientRect().left;
    const place = left + x / scale + 12;
    tip.style.left = `${Math.max(4, place + tip.offsetWidth > figure.clientWidth ? place - tip.offsetWidth - 24 : place)}px`;
    tip.style.top = `${area.top - figure.getBoundingClientRect().top + 8}px`;
  };
  svg.addEventListener("pointermove", move);
  svg.addEventListener("pointerdown", move);
  svg.addEventListener("pointerleave", leave);
}
