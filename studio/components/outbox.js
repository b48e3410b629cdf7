// Decisions on their way to the server. Nothing is forgotten before the server has said that it is on disk: not
// when the server is away, not when the tab is closed (beacon), not when the browser dies (copy in localStorage).

const KEPT_UNDER = "winnow.outbox."
const MOST_PER_REQUEST = 200
const LONGEST_PAUSE = 4000 // milliseconds between tries while the server is away

class Outbox {
  // target: {api, workspace, run, dimension, reviewer, session}
  constructor(target, events = []) {
    this.target = target
    this.events = events // in order of seq; those the server has confirmed are gone
    this.key = KEPT_UNDER + target.workspace + "." + target.session
    this.problem = ""
    this.failures = 0
    this.flying = false
    this.timer = null
    this.extras = () => ({}) // what the request asks for besides keeping events
    this.onAnswer = () => {}
    this.onChange = () => {}
  }

  // Outboxes of this workspace that another tab, or this browser before it died, left behind.
  static left(workspace, api, session) {
    const found = []
    for (const key of storageKeys()) {
      if (!key.startsWith(KEPT_UNDER + workspace + ".") || key.endsWith("." + session)) continue
      try {
        const { target, events } = JSON.parse(localStorage.getItem(key))
        if (events.length) found.push(new Outbox({ ...target, api }, events))
      } catch {
        localStorage.removeItem(key) // not written by us; it holds nothing anyone could send
      }
    }
    return found
  }

  put(event) {
    this.events.push(event)
    this.keepCopy()
    this.onChange()
    this.send(30) // presses that follow at once travel together
  }

  // Ask for a round trip within `delay` milliseconds, also with nothing to save.
  send(delay = 0) {
    if (this.flying || (this.timer && this.failures)) return
    clearTimeout(this.timer)
    this.timer = setTimeout(() => this.fly(), delay)
  }

  // Something changed for the better (network, tab visible): do not wait for the end of the pause.
  hurry() {
    if (this.flying || !this.failures) return
    clearTimeout(this.timer)
    this.timer = setTimeout(() => this.fly(), 0)
  }

  async fly() {
    this.timer = null
    this.flying = true
    const asked = this.extras()
    let answer = null
    try {
      const response = await fetch(this.target.api, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: this.body(this.events.slice(0, MOST_PER_REQUEST), asked),
        signal: AbortSignal.timeout(20000),
      })
      const content = await response.json()
      if (!response.ok) throw new Error(content?.error?.title || "The studio answered " + response.status)
      answer = content
      this.failures = 0
      this.problem = ""
    } catch (error) {
      this.failures += 1
      this.problem = error instanceof TypeError || error.name === "TimeoutError" ? "offline" : error.message
    }
    this.flying = false
    if (answer) {
      this.confirm(answer.acked)
      this.onAnswer(answer, asked)
      if (this.events.length) this.send(0)
    } else {
      this.timer = setTimeout(() => this.fly(), Math.min(LONGEST_PAUSE, 250 * 2 ** Math.min(this.failures, 10)))
    }
    this.onChange()
  }

  // Last chance: the browser delivers this after the page is gone. Whatever it does not accept stays in the copy.
  beacon() {
    for (let at = 0; at < this.events.length; at += 50) {
      const body = this.body(this.events.slice(at, at + 50), { need: 0, counts: false })
      if (!navigator.sendBeacon(this.target.api, new Blob([body], { type: "application/json" }))) return
    }
  }

  stop() {
    clearTimeout(this.timer)
    this.timer = null
    this.onAnswer = this.onChange = () => {}
    this.beacon()
  }

  confirm(acked) {
    const before = this.events.length
    this.events = this.events.filter((event) => event.seq > acked)
    if (this.events.length !== before) this.keepCopy()
  }

  body(events, asked) {
    const { session, run, dimension, reviewer } = this.target
    return JSON.stringify({ session, run, dimension, reviewer, events, ...asked })
  }

  keepCopy() {
    try {
      if (this.events.length) {
        localStorage.setItem(this.key, JSON.stringify({ target: this.target, events: this.events }))
      } else {
        localStorage.removeItem(this.key)
      }
    } catch {
      // Storage is full or forbidden: the outbox in memory and the beacon still do their part.
    }
  }
}

function storageKeys() {
  try {
    return Object.keys(localStorage)
  } catch {
    return []
  }
}
