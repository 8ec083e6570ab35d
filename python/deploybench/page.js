// Draws the page: what is chosen, the figures of it, the tables. Everything comes from the JSON in the page; nothing is
// fetched. Texts of records are only ever set as text, never as markup.
"use strict";
(() => {
  const page = JSON.parse(document.getElementById("data").textContent);
  const known = new Set(page.shades);
  const unpack = (columns) => {
    const names = Object.keys(columns);
    return (columns[names[0]] ?? []).map((_, row) => Object.fromEntries(names.map((name) => [name, columns[name][row]])));
  };
  const data = { entries: unpack(page.entries), peers: unpack(page.peers) };
  const models = [...new Set(data.entries.map((one) => one.model))];
  const chosen = { model: models[0], setting: data.entries[0]?.setting ?? 0, hidden: new Set() };

  const make = (tag, properties = {}, ...inside) => {
    const node = Object.assign(document.createElement(tag), properties);
    node.append(...inside);
    return node;
  };
  const digits = (value, significant) => {
    if (value === 0) return "0";
    if (Math.abs(value) < 10 ** (1 - significant)) return value.toExponential(Math.max(0, significant - 1));
    const whole = Math.abs(value) >= 1 ? String(Math.trunc(Math.abs(value))).length : 0;
    return value.toFixed(Math.min(20, Math.max(0, significant - whole)));
  };
  const shown = (value, column) => {
    if (value === null || value === undefined) return "–";
    return typeof value === "number" ? (column.whole ? String(value) : digits(value, column.digits)) : String(value);
  };
  const colour = (one) => `var(--${known.has(one.shade) ? one.shade : "soft"})`;

  // What a figure shows, in its order.
  const rowsOf = (figure) => {
    let rows = data[figure.data].filter((one) => !chosen.hidden.has(one.shade));
    const here = data.entries.find((one) => one.setting === chosen.setting);
    rows = rows.filter((one) => figure.same.every((name) => one[name] === here?.[name]));
    if (figure.scope !== "model") rows = rows.filter((one) => one.setting === chosen.setting);
    if (figure.scope !== "page") rows = rows.filter((one) => one.model === chosen.model);
    rows = rows.filter((one) => figure.needs.every((name) => one[name] !== null && one[name] !== undefined));
    if (figure.distinct && new Set(rows.map((one) => one[figure.distinct])).size < 2) return [];
    return figure.sort ? rows.slice().sort((a, b) => a[figure.sort] - b[figure.sort]) : rows;
  };

  // A table that its reader can sort by a column, and filter by words that must all occur in a row.
  const table = (columns, rows) => {
    const body = make("tbody");
    const built = rows.map((row) => {
      const line = make("tr");
      for (const column of columns) {
        if (row.trouble && column.number) continue;
        const text = column.to
          ? row[column.name] === null ? "–" : `${shown(row[column.name], column)}–${shown(row[column.to], column)}`
          : shown(row[column.name], column);
        const cell = make("td", { className: column.number ? "" : "text" });
        if (column.name === "runner") {
          cell.classList.add("runner");
          cell.append(make("i", { style: `background:${colour(row)}` }));
        }
        cell.append(text);
        line.append(cell);
      }
      if (row.trouble) line.append(make("td", { className: "none", colSpan: columns.filter((one) => one.number).length, textContent: row.trouble }));
      body.append(line);
      return { row, line, words: line.textContent.toLowerCase() };
    });
    const heads = columns.map((column) => {
      // no <button>, which Chromium leaves out where it repeats a head on the next sheet of paper
      const button = make("div", { role: "button", tabIndex: 0 }, column.title, make("small", { textContent: column.unit }));
      const head = make("th", { className: column.number ? "" : "text", scope: "col" }, button);
      button.onkeydown = (event) => {
        if (event.key !== "Enter" && event.key !== " ") return;
        event.preventDefault();
        button.click();
      };
      button.onclick = () => {
        const down = head.getAttribute("aria-sort") === "ascending";
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const key = (one) => one.row[column.name];
        built.sort((a, b) => {
          const [x, y] = [key(a), key(b)];
          if (x === null || y === null) return (x === null) - (y === null);
          return (typeof x === "number" ? x - y : String(x).localeCompare(String(y))) * (down ? -1 : 1);
        });
        body.append(...built.map((one) => one.line));
      };
      return head;
    });
    const grid = make("div", { className: "scroll", tabIndex: 0 }, make("table", {}, make("thead", {}, make("tr", {}, ...heads)), body));
    if (rows.length < 6) return [grid];
    const count = make("span", { textContent: `${rows.length} rows` });
    const field = make("input", { type: "search", placeholder: "filter, such as cpp bf16", ariaLabel: "filter rows by words" });
    field.oninput = () => {
      const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
      let left = 0;
      for (const one of built) {
        one.line.hidden = !words.every((word) => one.words.includes(word));
        left += !one.line.hidden;
      }
      count.textContent = words.length ? `${left} of ${rows.length} rows` : `${rows.length} rows`;
    };
    return [make("div", { className: "filter" }, field, count), grid];
  };

  const figures = page.figures.map((figure) => {
    const plot = make("div", { className: "plot" });
    const details = make("details", {}, make("summary", { textContent: "Table" }));
    const node = make("figure", { className: figure.third ? "figure third" : "figure", id: `figure-${figure.name}` },
      make("h3", { textContent: figure.title }), make("p", { className: "caption", textContent: figure.caption }), plot, details);
    document.querySelector(figure.scope === "page" ? "#overview .figures" : figure.third ? "#model .thirds" : "#model .figures").append(node);
    const one = { figure, node, plot, details, view: null, width: 0, stale: true, drawing: Promise.resolve() };
    details.ontoggle = () => details.open && tabulate(one);
    return one;
  });

  const tabulate = (one) => {
    if (one.details.children.length > 1) return;
    const { figure } = one;
    const lead = figure.data === "entries" && !figure.columns.includes("model") ? [page.columns.runner] : [];
    const names = figure.data === "entries" && figure.columns.includes("model") ? ["model", "runner", ...figure.columns.slice(1)] : figure.columns;
    one.details.append(...table([...lead, ...names.map((name) => page.columns[name])], rowsOf(figure)));
  };

  // One after the other, so that of two choices made at once the later is what stays.
  const draw = (one) => {
    const again = () => redraw(one);
    return (one.drawing = one.drawing.then(again, again));
  };
  const redraw = async (one) => {
    if (!one.stale) return;
    one.stale = false;
    const { figure, node, plot } = one;
    const rows = rowsOf(figure);
    node.hidden = !rows.length;
    while (one.details.children.length > 1) one.details.lastChild.remove();
    if (!rows.length) return;
    if (one.details.open) tabulate(one);
    const across = figure.cell * new Set(rows.map((row) => row.runner)).size + 190;
    node.classList.toggle("wide", figure.cell > 0 && across > node.parentElement.clientWidth / 2);
    one.width = plot.clientWidth;
    const { row, of } = figure.chart.usermeta ?? {};
    const height = row ? row * new Set(rows.map((one) => one[of])).size : figure.chart.height;
    const width = Math.max(one.width, figure.cell ? across : 0);
    const spec = { ...figure.chart, width, height, autosize: { type: "fit-x", contains: "padding" }, data: { values: rows } };
    one.view?.finalize();
    const made = await vegaEmbed(plot, spec, {
      config: page.config, renderer: "svg", actions: false, ast: true, defaultStyle: false,
      tooltip: { theme: "tip", disableDefaultStyle: true },
    });
    one.view = made.view;
    plot.style.minHeight = 0;
    if (figure.scope === "page") {
      made.view.addEventListener("click", (_, item) => {
        const model = item?.datum?.model;
        if (!models.includes(model)) return;
        choose({ model });
        document.getElementById("model").scrollIntoView({ behavior: "smooth" });
      });
    }
  };

  // Figures in sight are drawn at once, the others when there is time, or before printing.
  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries) if (entry.isIntersecting) draw(figures.find((one) => one.node === entry.target));
  }, { rootMargin: "300px" });
  figures.forEach((one) => seen.observe(one.node));
  const idle = window.requestIdleCallback ?? ((next) => setTimeout(next, 50));
  const drawNext = async () => {
    const next = figures.find((one) => one.stale);
    if (next) {
      await draw(next);
      return void idle(drawNext);
    }
    const drawings = figures.map((one) => one.drawing); // those in sight were begun elsewhere
    await Promise.all(drawings);
    if (figures.some((one, index) => one.stale || one.drawing !== drawings[index])) return void idle(drawNext);
    document.documentElement.dataset.drawn = "yes";
    performance.mark("drawn");
  };
  const refresh = (which) => {
    document.documentElement.dataset.drawn = "no";
    for (const one of figures) if (which(one)) { one.stale = true; one.node.hidden = false; seen.unobserve(one.node); seen.observe(one.node); }
    idle(drawNext);
  };
  let resized = 0;
  addEventListener("resize", () => {
    clearTimeout(resized);
    resized = setTimeout(() => refresh((one) => !one.node.hidden && one.plot.clientWidth !== one.width), 150);
  });
  // On paper tables lie open, save those of all models, which repeat the table of all numbers.
  addEventListener("beforeprint", () => figures.filter((one) => !one.node.hidden && one.figure.scope !== "page").forEach((one) => {
    one.details.open = true;
    tabulate(one);
  }));

  const tile = (label, one, value, unit, more) => make("div", { className: "tile" }, make("span", { textContent: label }),
    make("b", {}, value, make("small", { textContent: ` ${unit}` })), make("span", { className: "runner" }, make("i", { style: `background:${colour(one)}` }), one.runner), make("span", { textContent: more }));
  const headline = () => {
    const rows = data.entries.filter((one) => one.model === chosen.model && one.setting === chosen.setting && !one.trouble);
    const least = (name) => rows.filter((one) => one[name] !== null).sort((a, b) => a[name] - b[name])[0];
    const entries = [["Fastest call", "median"], ["Fastest cold start", "cold_start"], ["Least memory", "peak_rss"], ["Smallest file", "artifact"]];
    const most = (name) => rows.filter((one) => one[name] !== null).sort((a, b) => b[name] - a[name])[0];
    const [many, load] = [most("many"), most("load_top")];
    const tiles = entries.map(([label, name]) => [label, least(name), name]).filter(([, one]) => one);
    if (many) tiles[0] = ["Most images a second", many, "images_per_second"];
    if (load) tiles[0] = ["Highest rate", load, "images_per_second"];
    document.querySelector("#model .tiles").replaceChildren(...tiles.map(([label, one, name]) => {
      const column = page.columns[name];
      const range = one.speedup_low === null ? "" : ` (${digits(one.speedup_low, 3)}–${digits(one.speedup_high, 3)})`;
      const more = (name === "median" || name === "images_per_second") && one.speedup !== null ? `${digits(one.speedup, 3)} × eager${range}` : "";
      return tile(label, one, shown(one[name], column), column.unit, more);
    }));
    document.querySelector("#model h2").textContent = models.length > 1 ? chosen.model : models.length ? "By runner" : "No runs yet";
  };

  const choose = (what) => {
    Object.assign(chosen, what);
    if (!data.entries.some((one) => one.model === chosen.model && one.setting === chosen.setting)) {
      // a model that was not measured at this setting brings its own, and a setting its first model
      const other = data.entries.find((one) => ("setting" in what ? one.setting === chosen.setting : one.model === chosen.model));
      if (other) [what.setting, what.model] = [chosen.setting, chosen.model] = [other.setting, other.model];
    }
    for (const select of document.querySelectorAll(".bar select")) select.value = chosen[select.name];
    headline();
    refresh((one) => one.figure.scope !== "page" || "setting" in what || "hidden" in what);
  };
  const menu = (name, label, options) => {
    const select = make("select", { name }, ...options.map(([value, text]) => make("option", { value, textContent: text })));
    select.onchange = () => choose({ [name]: name === "setting" ? Number(select.value) : select.value });
    return make("label", {}, label, select);
  };
  const bar = document.getElementById("bar");
  if (models.length > 1) bar.append(menu("model", "Model", models.map((model) => [model, model])));
  if (page.settings.length > 1) bar.append(menu("setting", "Setting", page.settings.map((text, index) => [index, text])));
  const legend = make("div", { className: "legend", role: "group", ariaLabel: "ways to deploy: press to hide" });
  for (const shade of page.shades.filter((name) => data.entries.some((one) => one.shade === name))) {
    const button = make("button", { type: "button", title: "hide or show" }, make("i", { style: `background:var(--${shade})` }), shade);
    button.setAttribute("aria-pressed", "true");
    button.onclick = () => {
      const hidden = new Set(chosen.hidden);
      hidden.delete(shade) || hidden.add(shade);
      button.setAttribute("aria-pressed", String(!hidden.has(shade)));
      choose({ hidden });
    };
    legend.append(button);
  }
  bar.append(legend, make("span", { className: "key", textContent: "● C++  ○ Python  ·  circle fp32, diamond bf16, square fp16" }));

  const all = page.table.map((name) => page.columns[name]);
  document.getElementById("entries").append(...table(all, data.entries));
  choose({});
})();
