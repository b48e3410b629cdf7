// Draws the machines of a cluster, and the work between them. Streamlit calls the function at the end whenever the
// figures change; cards and dots stay and move on. Everything said is said by Python: here are only positions.

const mounted = new WeakMap()
const CARD = { width: 196, height: 78 }
const SMALL = { width: 148, height: 78 }
const GAP = 14 // pixels between cards, at least
const NARROW = 600 // pixels below which cards are small and stand in rows
const SPEED = 120 // pixels per second of a dot
const BOW = 16 // pixels between the way out and the way back
const SVG = "http://www.w3.org/2000/svg"

// Numbers stretched so that they reach from -1 to 1: a table of three is as wide as one of four.
function spread(values) {
  const low = Math.min(...values)
  const high = Math.max(...values)
  return values.map((value) => (high - low < 1e-6 ? 0 : (2 * (value - low)) / (high - low) - 1))
}

// Where the middle of each card is, for a stage of this width: around a table, or in rows where they would touch.
function places(ids, hub, width) {
  const table = aroundTable(ids, hub, width)
  return width < NARROW || crowded(table) ? inRows(ids, hub, width) : table
}

// A few machines side by side; with more of them the leader in the middle, so that all its ways can be seen.
function aroundTable(ids, hub, width) {
  const ring = ids.length <= 4 ? ids : ids.filter((id) => id !== hub)
  const count = ring.length
  const height = count === 1 ? 118 : count === 2 ? 140 : count <= 3 ? 290 : 360
  const rx = Math.min(count === 2 ? 270 : 420, (width - CARD.width) / 2 - 10)
  const ry = (height - CARD.height) / 2 - 8
  const angles = ring.map((_, index) => Math.PI + (index * 2 * Math.PI) / count)
  const xs = spread(angles.map(Math.cos))
  const ys = spread(angles.map(Math.sin))
  const spot = (index) => ({ x: width / 2 + rx * xs[index], y: height / 2 + ry * ys[index] })
  const at = new Map(ring.map((id, index) => [id, spot(index)]))
  if (!at.has(hub)) at.set(hub, { x: width / 2, y: height / 2 })
  return { card: CARD, height, at, thick: 6 }
}

function crowded({ card, at }) {
  const spots = [...at.values()]
  const near = (a, b) => Math.abs(a.x - b.x) < card.width + GAP && Math.abs(a.y - b.y) < card.height + GAP
  return spots.some((a, index) => spots.slice(index + 1).some((b) => near(a, b)))
}

// The leader above, the others below it in rows.
function inRows(ids, hub, width) {
  const card = width < NARROW ? SMALL : CARD
  const columns = Math.max(1, Math.floor((width + GAP) / (card.width + GAP)))
  const step = card.height + 34
  const at = new Map([[hub, { x: width / 2, y: card.height / 2 + 8 }]])
  const others = ids.filter((id) => id !== hub)
  others.forEach((id, index) => {
    const row = Math.floor(index / columns)
    const inRow = Math.min(columns, others.length - row * columns)
    const x = width / 2 + ((index % columns) - (inRow - 1) / 2) * (card.width + GAP)
    at.set(id, { x, y: card.height / 2 + 8 + (row + 1) * step })
  })
  return { card, height: card.height + 16 + Math.ceil(others.length / columns) * step, at, thick: 2 }
}

// A point on the bow from one place to another, `side` pixels beside the straight line in the middle.
function along(from, to, side, share) {
  const length = Math.hypot(to.x - from.x, to.y - from.y) || 1
  const middle = {
    x: (from.x + to.x) / 2 - ((to.y - from.y) / length) * side * 2,
    y: (from.y + to.y) / 2 + ((to.x - from.x) / length) * side * 2,
  }
  const rest = 1 - share
  return {
    x: rest * rest * from.x + 2 * rest * share * middle.x + share * share * to.x,
    y: rest * rest * from.y + 2 * rest * share * middle.y + share * share * to.y,
  }
}

class Picture {
  constructor(root) {
    this.stage = root.querySelector(".stage")
    this.legend = root.querySelector(".legend")
    this.links = root.querySelector(".links")
    this.dots = root.querySelector(".dots")
    this.root = root
    this.cards = new Map()
    this.flows = [] // one each way for every machine that works for the leader
    this.moving = []
    this.frame = 0
    this.still = window.matchMedia("(prefers-reduced-motion: reduce)")
    this.onStill = () => this.draw()
    this.still.addEventListener("change", this.onStill)
    this.resized = new ResizeObserver(() => this.draw())
    this.resized.observe(this.stage)
  }

  update(data) {
    this.data = data
    const colors = getComputedStyle(this.root).getPropertyValue("--st-chart-categorical-colors").split(",")
    if (colors[1]) this.root.style.setProperty("--second", colors[1].trim())
    this.stage.setAttribute("aria-label", data.sentence)
    this.draw()
  }

  draw() {
    const width = this.stage.clientWidth
    if (!this.data || !width) return
    const { machines, hub } = this.data
    const { card, height, at, thick } = places(machines.map((machine) => machine.id), hub, width)
    this.stage.style.height = `${height}px`
    for (const [id, element] of this.cards) if (!at.has(id)) this.cards.delete(id), element.remove()
    for (const machine of machines) this.drawCard(machine, at.get(machine.id), card)
    this.drawLinks(machines, at, hub, thick)
    this.drawLegend()
    if (this.flows.length && !this.still.matches) this.run()
    else this.rest()
  }

  drawCard(machine, place, size) {
    let card = this.cards.get(machine.id)
    if (!card) {
      card = document.createElement("button")
      card.type = "button"
      card.innerHTML = `<span class="name"><i class="lamp"></i><b></b><em>leads</em></span>
        <span class="line"><span></span><em></em></span><span class="part"></span><i class="share"></i>`
      card.onclick = () => {
        const details = document.querySelector(`.st-key-machine_${machine.id}`)
        details?.scrollIntoView({ behavior: this.still.matches ? "auto" : "smooth", block: "center" })
        details?.querySelector("button")?.focus({ preventScroll: true })
      }
      this.cards.set(machine.id, card)
      this.stage.append(card)
    }
    card.className = `machine ${machine.state}${machine.leads ? " leads" : ""}`
    card.dataset.machine = machine.id
    card.setAttribute("aria-label", machine.sentence)
    card.title = machine.name
    card.style.cssText = `left:${place.x}px;top:${place.y}px;width:${size.width}px;height:${size.height}px`
    card.querySelector("b").textContent = machine.name
    card.querySelector(".name em").hidden = !machine.leads
    card.querySelector(".line span").textContent = machine.line
    card.querySelector(".line em").textContent = machine.of_the_work
    card.querySelector(".part").textContent = machine.part
    card.querySelector(".share").style.width = `${100 * machine.share}%`
  }

  drawLinks(machines, at, hub, thick) {
    const from = at.get(hub)
    const fastest = Math.max(...machines.map((machine) => machine.rate), 1e-9)
    const others = machines.filter((machine) => machine.id !== hub)
    const before = new Map(this.flows.map((flow) => [flow.key, flow]))
    this.links.replaceChildren(
      ...others.map((machine) => {
        const to = at.get(machine.id)
        const path = document.createElementNS(SVG, "path")
        path.setAttribute("d", `M${from.x} ${from.y}L${to.x} ${to.y}`)
        const working = machine.state === "working" && machine.rate > 0
        path.setAttribute("class", machine.state === "silent" ? "off" : working ? "on" : "")
        path.setAttribute("stroke-width", working ? 1.5 + (thick * machine.rate) / fastest : 1.5)
        return path
      }),
    )
    this.flows = others
      .filter((machine) => machine.state === "working" && machine.rate > 0)
      .flatMap((machine) => {
        const to = at.get(machine.id)
        const pace = machine.rate / this.data.rows_per_dot // dots per second
        return [
          { key: `${machine.id} out`, kind: "out", from, to, pace },
          { key: `${machine.id} back`, kind: "back", from: to, to: from, pace },
        ]
      })
    for (const flow of this.flows) flow.due = before.get(flow.key)?.due ?? 0
    const now = new Map(this.flows.map((flow) => [flow.key, flow]))
    for (const dot of this.moving) dot.flow = now.get(dot.flow.key) || dot.flow
  }

  drawLegend() {
    const parts = this.still.matches ? this.data.legend_still : this.data.legend
    if (JSON.stringify(parts) === this.shownLegend) return
    this.shownLegend = JSON.stringify(parts)
    this.legend.replaceChildren(
      ...parts.map(([kind, words]) => {
        const part = document.createElement("span")
        if (kind) part.append(Object.assign(document.createElement("i"), { className: kind }))
        part.append(words)
        return part
      }),
    )
  }

  run() {
    if (this.frame) return
    this.last = performance.now()
    const step = (now) => {
      const seconds = Math.min((now - this.last) / 1000, 0.1) // a tab that slept does not catch up
      this.last = now
      this.move(seconds)
      this.frame = this.flows.length || this.moving.length ? requestAnimationFrame(step) : 0
    }
    this.frame = requestAnimationFrame(step)
  }

  rest() {
    if (this.still.matches) {
      cancelAnimationFrame(this.frame)
      this.frame = 0
      this.moving = []
      this.dots.replaceChildren()
    }
  }

  move(seconds) {
    for (const flow of this.flows) {
      flow.due += flow.pace * seconds
      if (flow.due < 1) continue
      flow.due %= 1
      const dot = document.createElementNS(SVG, "circle")
      dot.setAttribute("class", flow.kind)
      dot.setAttribute("r", 3.5)
      this.dots.append(dot)
      this.moving.push({ dot, flow, share: 0 })
    }
    this.moving = this.moving.filter((one) => {
      const { from, to } = one.flow
      one.share += (SPEED * seconds) / (Math.hypot(to.x - from.x, to.y - from.y) || 1)
      if (one.share >= 1) return one.dot.remove()
      const { x, y } = along(from, to, BOW, one.share)
      one.dot.setAttribute("cx", x)
      one.dot.setAttribute("cy", y)
      return true
    })
  }

  close() {
    cancelAnimationFrame(this.frame)
    this.resized.disconnect()
    this.still.removeEventListener("change", this.onStill)
  }
}

export default function (component) {
  const root = component.parentElement.querySelector("#cluster")
  let picture = mounted.get(root)
  if (!picture) mounted.set(root, (picture = new Picture(root)))
  picture.update(component.data)
  return () => {
    mounted.delete(root)
    picture.close()
  }
}
