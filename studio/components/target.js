// Lets people drag the target line of the risk-coverage figure. The figure draws the line and its value by itself;
// this puts a handle where the value stands and moves the line while it is held. Streamlit calls the function at
// the end whenever the target changes.

const mounted = new WeakMap()
const REACH = 8 // pixels from the line within which it can be taken hold of
const STYLE = `position:absolute;z-index:2;transform:translate(0,-50%);box-sizing:border-box;height:26px;
  padding:0 8px 0 5px;display:flex;align-items:center;gap:3px;border:0;border-radius:13px;cursor:ns-resize;
  font:600 13px/1 Inter,system-ui,sans-serif;font-variant-numeric:tabular-nums;white-space:nowrap;
  touch-action:none;user-select:none;-webkit-user-select:none`
const ARROWS = `<svg width="10" height="16" viewBox="0 0 10 16" fill="none" stroke="currentColor" stroke-width="1.8"
  stroke-linecap="round" stroke-linejoin="round" aria-hidden="true"><path d="M2 5.5 5 2.5l3 3M2 10.5l3 3 3-3"/></svg>`

class Handle {
  constructor() {
    this.grip = document.createElement("div")
    this.grip.className = "winnow-target"
    this.grip.style.cssText = STYLE
    this.grip.title = "Drag to allow more or less error"
    this.grip.setAttribute("aria-hidden", "true") // the slider beside the figure is for the keyboard
    this.grip.innerHTML = `${ARROWS}<span></span>`
    this.value = this.grip.querySelector("span")
    this.held = null // the percentage while the line is held
    this.place = this.place.bind(this)
    this.listeners = [
      ["pointermove", (event) => this.hover(event)],
      ["pointerleave", () => this.cursor("")],
      ["pointerdown", (event) => this.take(event)],
    ]
    const moves = { pointermove: "move", pointerup: "drop", pointercancel: "giveUp", lostpointercapture: "giveUp" }
    for (const [name, verb] of Object.entries(moves)) {
      this.grip.addEventListener(name, (event) => this[verb](event))
    }
    this.onKey = (event) => event.key === "Escape" && this.giveUp()
    document.addEventListener("keydown", this.onKey)
    this.resized = new ResizeObserver(this.place)
    // The page may draw the figure later than this, or another one in its place: full screen, another run.
    this.watching = new MutationObserver(() => this.figure?.isConnected || this.find())
    this.watching.observe(document.body, { childList: true, subtree: true })
  }

  update({ data, setTriggerValue }) {
    this.data = data
    this.send = (value) => setTriggerValue("target", value)
    this.find()
    this.place()
  }

  find() {
    const figure = document.querySelector(`.st-key-${this.data.chart} .js-plotly-plot`)
    if (!figure || figure === this.figure || !figure.on) return
    this.leave()
    this.figure = figure
    for (const [name, handler] of this.listeners) figure.addEventListener(name, handler, true)
    figure.on("plotly_afterplot", this.place)
    this.resized.observe(figure)
    figure.append(this.grip)
    this.place()
  }

  leave() {
    if (!this.figure) return
    for (const [name, handler] of this.listeners) this.figure.removeEventListener(name, handler, true)
    this.figure.removeListener?.("plotly_afterplot", this.place)
    this.resized.unobserve(this.figure)
    this.grip.remove()
    const value = this.annotation()
    if (value) value.style.visibility = ""
    this.figure = null
  }

  // Where the figure drew the line; null while it draws none, or none as expected.
  drawn() {
    const area = this.figure?.querySelector(".nsewdrag")?.getBoundingClientRect()
    const { shapes = [], yaxis, meta } = this.figure?.layout || {}
    const index = shapes.findIndex((shape) => shape.name === "target")
    const [low, high] = yaxis?.range || []
    if (!area?.height || index < 0 || !(high > low)) return null
    const path = this.figure.querySelector(`.shapelayer path[data-index="${index}"]`)
    const line = area.bottom - ((shapes[index].y0 - low) / (high - low)) * area.height
    return { area, low, high, path, line, colour: shapes[index].line.color, ground: meta?.surface || "#fff" }
  }

  annotation() {
    const index = (this.figure.layout?.annotations || []).findIndex((one) => one.name === "target")
    return this.figure.querySelector(`.infolayer .annotation[data-index="${index}"]`)
  }

  place() {
    const drawn = this.drawn()
    this.grip.hidden = !drawn
    this.grip.style.display = drawn ? "flex" : "none"
    if (!drawn) return
    const { area, low, high, path, line, colour, ground } = drawn
    const percent = this.held ?? this.data.target
    const y = area.bottom - ((percent / 100 - low) / (high - low)) * area.height
    const origin = this.figure.getBoundingClientRect()
    this.grip.style.top = `${y - origin.top}px`
    this.grip.style.left = `${area.right - origin.left + 2}px`
    this.grip.style.background = colour
    this.grip.style.color = ground
    this.grip.style.boxShadow = this.held === null ? "none" : `0 0 0 4px color-mix(in srgb, ${colour} 28%, transparent)`
    this.value.textContent = `${percent}%`
    if (path) path.style.transform = Math.abs(y - line) < 0.5 ? "" : `translateY(${y - line}px)`
    const value = this.annotation()
    if (value) value.style.visibility = "hidden" // the handle stands in its place
  }

  near(event) {
    if (this.grip.contains(event.target)) return true
    const drawn = this.drawn()
    if (!drawn || event.pointerType === "touch") return false // a finger takes the handle, or scrolls the page
    const { area, line } = drawn
    return Math.abs(event.clientY - line) <= REACH && event.clientX >= area.left && event.clientX <= area.right
  }

  cursor(name) {
    const area = this.figure?.querySelector(".nsewdrag")
    if (area) area.style.cursor = name
  }

  hover(event) {
    if (this.held === null) this.cursor(this.near(event) ? "ns-resize" : "")
  }

  take(event) {
    if (event.button !== 0 || this.held !== null || !this.near(event)) return
    event.preventDefault()
    event.stopPropagation()
    this.grip.setPointerCapture(event.pointerId)
    this.held = this.data.target
    this.offset = event.clientY - this.drawn().line
    this.place()
  }

  move(event) {
    const drawn = this.held === null ? null : this.drawn()
    if (!drawn) return
    const { area, low, high } = drawn
    const share = low + ((area.bottom - (event.clientY - this.offset)) / area.height) * (high - low)
    this.held = Math.min(Math.max(Math.round(100 * share), this.data.least), this.data.most)
    this.place()
  }

  drop(event) {
    if (this.held === null) return
    this.move(event)
    const chosen = this.held
    this.held = null
    if (chosen !== this.data.target) {
      this.data = { ...this.data, target: chosen } // until the page says so itself
      this.send(chosen)
    }
    this.place()
  }

  giveUp() {
    if (this.held === null) return
    this.held = null
    this.place()
  }

  close() {
    this.leave()
    this.resized.disconnect()
    this.watching.disconnect()
    document.removeEventListener("keydown", this.onKey)
  }
}

export default function (component) {
  const root = component.parentElement
  let handle = mounted.get(root)
  if (!handle) mounted.set(root, (handle = new Handle()))
  handle.update(component)
  return () => {
    mounted.delete(root)
    handle.close()
  }
}
