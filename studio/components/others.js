// What other models and people said of the row on screen, and, when asked for, the reason the model gives.

const LOOK_AGAIN = 1500 // milliseconds between looks for a reason that was asked for
const LOOK_FOR = 120000 // then somebody else may wait
const ASKED = { explain: "asked for its reason", arbitrate: "asked again", vote: "in the vote" }

class Others {
  constructor(panel, onChange) {
    this.panel = panel
    this.onChange = onChange
    this.item = null // whose answers are shown
    this.asked = new Map() // row id: when its reason was asked for
    this.timer = null
  }

  toggle(deck) {
    if (this.item === deck.item) return this.hide()
    this.item = deck.item
    this.look(deck)
  }

  hide() {
    this.item = null
    clearTimeout(this.timer)
    this.panel.hidden = true
    this.onChange()
  }

  // Another row came on screen: what was said of the last one goes with it.
  follow(deck) {
    if (this.item && (this.item !== deck.item || !deck.suggestionVisible)) this.hide()
  }

  async look(deck) {
    const item = this.item
    clearTimeout(this.timer)
    if (!item) return
    const { runs, run, dimension } = deck.settings
    this.say(element("p", "Looking"))
    try {
      const address = `${runs}/${encodeURIComponent(run)}/${encodeURIComponent(dimension)}/rows/${item.id}`
      const content = await answerTo(fetch(address))
      if (this.item === item) this.draw(deck, content.answers)
    } catch (error) {
      if (this.item === item) this.say(element("p", error instanceof TypeError ? "The studio is away." : error.message))
    }
  }

  draw(deck, answers) {
    const lines = answers.map((answer) => line(answer))
    const reason = answers.map((answer) => answer.explanation).filter(Boolean).pop()
    const since = this.asked.get(this.item.id)
    if (reason && !this.item.explanation) {
      this.item.explanation = reason
      this.onChange()
    }
    const parts = lines.length ? lines : [element("p", "Nobody else has said anything about this row.")]
    if (!this.item.explanation && since === undefined) parts.push(this.askButton(deck))
    if (!this.item.explanation && since !== undefined) {
      const waiting = performance.now() - since < LOOK_FOR
      parts.push(element("p", waiting ? "The model was asked for its reason." : "There is no reason yet. It shows here once it is known."))
      if (waiting) this.timer = setTimeout(() => this.look(deck), LOOK_AGAIN)
    }
    this.say(...parts)
  }

  askButton(deck) {
    const button = document.createElement("button")
    button.type = "button"
    button.className = "key ask"
    button.append(element("kbd", "W"), " ask the model why")
    button.onmousedown = (event) => event.preventDefault()
    button.onclick = () => this.why(deck)
    return button
  }

  async why(deck) {
    const item = deck.item
    if (!item || item.explanation || this.asked.has(item.id)) return
    this.item = item
    this.asked.set(item.id, performance.now())
    const { runs, run } = deck.settings
    try {
      const wish = {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify({ another: { explain: true }, kind: "explain", rows: [item.id] }),
      }
      await answerTo(fetch(`${runs}/${encodeURIComponent(run)}/again`, wish))
      if (this.item === item) this.look(deck)
    } catch (error) {
      this.asked.delete(item.id)
      if (this.item === item) this.say(element("p", error instanceof TypeError ? "The studio is away." : error.message))
    }
  }

  say(...parts) {
    this.panel.replaceChildren(...parts)
    this.panel.hidden = false
  }

  close() {
    clearTimeout(this.timer)
  }
}

async function answerTo(request) {
  const response = await request
  const content = await response.json().catch(() => null)
  if (response.ok && content) return content
  throw new Error(content?.error?.title || "The studio answered " + response.status)
}

// `counts` says that a row is labeled by this, or by this among others.
function line(answer) {
  const made = document.createElement("p")
  const who = answer.reviewer || (answer.labeler === "rule" ? "a rule" : answer.model) || answer.labeler
  const sure = answer.confidence === null || answer.confidence === undefined ? "" : "at " + percent(answer.confidence)
  const how = answer.counts ? "this is what counts" : ASKED[answer.kind] || ""
  made.append(element("span", who), element("b", answer.label ?? (answer.error ? "failed" : "no label")))
  made.append(element("em", [sure, how].filter(Boolean).join(", ")))
  made.title = answer.error || ""
  return made
}
