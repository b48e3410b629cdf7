// The rows on the table: those decided, the one on screen, those ahead. Knows nothing of the page it is drawn on.

const FETCH = 50
const REFILL_UNDER = 25
const ASK_AGAIN = 4000 // milliseconds between looks for new rows when the server had none left
const COUNT_AGAIN = 2000 // milliseconds between exact counts; in between the browser counts along
const PROBABILITIES_KEPT = 20 // with every decision: what could be read on screen, not a thousand labels

class Deck {
  constructor(settings, onChange) {
    this.settings = settings
    this.onChange = onChange
    this.session = newSession()
    this.seq = 0
    this.items = []
    this.position = 0
    this.past = [] // decisions that can be undone, oldest first: {session, seq, action, label, item}
    this.blind = settings.blind
    this.counts = null
    this.exhausted = false
    this.askedAt = 0
    this.decidedAt = 0
    this.countedAt = 0
    this.historyWanted = FETCH
    this.historyHad = 0
    this.historyEnded = false
    this.loaded = false
    this.clock = { since: null }
    const { api, workspace, run, dimension, reviewer } = settings
    this.outbox = new Outbox({ api, workspace, run, dimension, reviewer, session: this.session })
    this.outbox.extras = () => this.wishes()
    this.outbox.onAnswer = (answer, asked) => this.accept(answer, asked)
    this.outbox.onChange = () => this.onChange()
    this.adopted = Outbox.left(workspace, api, this.session)
    for (const left of this.adopted) {
      left.extras = () => ({ need: 0, counts: false })
      left.onChange = () => this.onChange()
      left.send()
    }
    this.outbox.send()
  }

  get item() {
    return this.items[this.position] || null
  }

  get ahead() {
    return this.items.reduce((sum, item) => sum + (item.decisions.length ? 0 : 1), 0)
  }

  get unsaved() {
    return this.adopted.reduce((sum, left) => sum + left.events.length, this.outbox.events.length)
  }

  get problem() {
    return this.outbox.problem || this.adopted.map((left) => left.problem).find(Boolean) || ""
  }

  get finished() {
    return this.loaded && !this.item && this.exhausted
  }

  get suggestionVisible() {
    return !this.blind && this.item !== null && this.item.suggestion !== null
  }

  // Deciding

  decide(action, label = "") {
    const item = this.item
    if (!item) return false
    const seq = this.seq++
    this.outbox.put({
      seq,
      row_id: item.id,
      action,
      label,
      seconds: this.stopClock(item),
      comment: item.comment,
      blind: !item.seen,
      shown: this.shown(item),
      undoes: null,
      undoes_session: null,
      decided_at: Date.now() / 1000,
    })
    if (!item.decisions.length) this.tally(item, action, 1)
    const decision = { session: this.session, seq, action, label, item }
    item.decisions.push(decision)
    this.past.push(decision)
    item.spent = 0
    item.draft = null
    this.goTo(this.nextOpen())
    return true
  }

  choose(label) {
    const item = this.item
    return item !== null && this.decide(item.suggestion === label ? "approve" : "modify", label)
  }

  accept_suggestion() {
    return this.suggestionVisible && this.decide("approve", this.item.suggestion)
  }

  // An answer chosen and not saved yet, of a kind that takes more than one key; null for none.
  setDraft(label) {
    if (!this.item) return
    this.item.draft = label
    this.onChange()
  }

  undo() {
    const decision = this.past.pop()
    if (!decision) return false
    const { item } = decision
    this.stopClock(this.item)
    this.outbox.put({
      seq: this.seq++,
      row_id: item.id,
      action: "undo",
      label: "",
      seconds: 0,
      comment: "",
      blind: false,
      shown: {},
      undoes: decision.seq,
      undoes_session: decision.session === this.session ? null : decision.session,
      decided_at: Date.now() / 1000,
    })
    item.decisions = item.decisions.filter((other) => other !== decision)
    if (!item.decisions.length) this.tally(item, decision.action, -1)
    // What was chosen with several keys is there to be mended.
    item.draft = ["multi", "score"].includes(this.settings.kind) && decision.label ? decision.label : null
    this.goTo(this.items.indexOf(item))
    if (this.past.length < 5) this.wantHistory()
    return true
  }

  move(step) {
    this.stopClock(this.item)
    this.goTo(Math.max(0, Math.min(this.items.length, this.position + step)))
    if (this.position < 3) this.wantHistory()
  }

  toggleBlind() {
    this.blind = !this.blind
    this.look()
    this.onChange()
  }

  setComment(text) {
    if (this.item) this.item.comment = text.slice(0, 10000)
  }

  // Time spent looking at a row, while the tab is in front

  look() {
    const item = this.item
    if (!item) return
    if (!this.blind && item.suggestion !== null) item.seen = true
    if (this.clock.since === null && document.visibilityState === "visible") this.clock.since = performance.now()
  }

  stopClock(item) {
    if (this.clock.since !== null && item) item.spent += (performance.now() - this.clock.since) / 1000
    this.clock.since = null
    return item ? Math.round(item.spent * 1000) / 1000 : 0
  }

  visibilityChanged() {
    if (document.visibilityState === "visible") {
      this.look()
      this.outbox.hurry()
    } else {
      this.stopClock(this.item)
    }
  }

  // With the server

  wishes() {
    const now = performance.now()
    const held = new Set(this.outbox.events.map((event) => event.row_id))
    for (const item of this.items) if (!item.decisions.length) held.add(item.id)
    const wait = this.exhausted && now - this.askedAt < ASK_AGAIN - 100
    const need = this.ahead < REFILL_UNDER && !wait ? FETCH : 0
    if (need) this.askedAt = now
    const count = now - this.countedAt > COUNT_AGAIN || need > 0
    if (count) this.countedAt = now
    const history = this.historyWanted > this.historyHad && !this.historyEnded ? this.historyWanted : 0
    const { order, domain, among } = this.settings
    return { need, exclude: need ? [...held] : [], order, domain, among, blind: false, history, counts: count }
  }

  accept(answer, asked) {
    const wasEmpty = !this.item
    if (asked.history) this.addPast(answer.history, asked.history)
    if (asked.need) {
      this.exhausted = answer.items.length < asked.need
      for (const row of answer.items) this.addAhead(row)
    }
    if (answer.counts && !this.outbox.events.length) this.counts = answer.counts
    this.loaded = true
    if (wasEmpty) this.goTo(this.nextOpen())
    if (this.ahead < REFILL_UNDER && !this.exhausted) this.outbox.send(0)
    else if (answer.counts && this.outbox.events.length) this.countedAt = 0 // counted too early: count again
    this.onChange()
  }

  // Called now and then: rows arrive while a run goes on, and a late count becomes exact.
  tick() {
    const now = performance.now()
    const hungry = this.ahead < REFILL_UNDER && now - this.askedAt >= ASK_AGAIN
    const uncounted = this.seq > 0 && this.countedAt < this.decidedAt && now - this.countedAt > COUNT_AGAIN
    if (this.loaded && (hungry || uncounted)) this.outbox.send(0)
  }

  wantHistory() {
    if (this.historyEnded || this.historyWanted > this.historyHad) return
    this.historyWanted = this.historyHad + FETCH
    this.outbox.send(0)
  }

  close() {
    this.outbox.stop()
    for (const left of this.adopted) left.stop()
  }

  // Inside

  goTo(position) {
    this.position = position
    this.clock.since = null
    this.look()
    this.onChange()
    if (this.ahead < REFILL_UNDER && !this.exhausted) this.outbox.send(0)
  }

  nextOpen() {
    const open = (item) => !item.decisions.length
    const after = this.items.findIndex((item, index) => index >= this.position && open(item))
    if (after >= 0) return after
    const any = this.items.findIndex(open)
    return any >= 0 ? any : this.items.length
  }

  addAhead(row) {
    const known = this.items.find((item) => item.id === row.row_id)
    if (known) {
      const newest = known.decisions[known.decisions.length - 1]
      // Skipped in an earlier visit: the row waits again, as a card of its own. Anything else is here already.
      if (!newest || newest.action !== "skip" || newest.session === this.session) return
      const at = this.items.indexOf(known)
      this.items.splice(at, 1)
      if (at < this.position) this.position -= 1
      this.past = this.past.filter((decision) => decision.item !== known)
    }
    this.items.push(card(row))
  }

  addPast(history, asked) {
    this.historyHad = asked
    this.historyEnded = history.length < asked
    const known = new Set(this.past.map((decision) => decision.session + "/" + decision.seq))
    const older = []
    const cards = []
    const again = new Set(this.settings.among) // decided before, and to be decided anew
    for (const entry of history) {
      if (again.has(entry.row_id)) continue
      if (entry.undone || entry.session === this.session || known.has(entry.session + "/" + entry.seq)) continue
      let item = this.items.find((other) => other.id === entry.row_id) || cards.find((c) => c.id === entry.row_id)
      if (!item) {
        item = card({ ...entry, domain: "", probabilities: [] })
        item.seen = !entry.blind
        item.comment = entry.comment
        cards.unshift(item)
      }
      const decision = { session: entry.session, seq: entry.seq, action: entry.action, label: entry.label, item }
      item.decisions.unshift(decision)
      older.unshift(decision)
    }
    this.past.unshift(...older)
    this.items.unshift(...cards)
    this.position += cards.length
  }

  shown(item) {
    if (!item.seen) return { suggestion: null, confidence: null, probabilities: {} }
    const pairs = this.settings.labels.map((label, index) => [label.name, item.probabilities[index]])
    const best = pairs.filter((pair) => pair[1] !== undefined).sort((a, b) => b[1] - a[1])
    return {
      suggestion: item.suggestion,
      confidence: item.confidence,
      probabilities: Object.fromEntries(best.slice(0, PROBABILITIES_KEPT).map(([name, p]) => [name, +p.toFixed(5)])),
    }
  }

  // Whether its rows count as decided already, by others or by the same person.
  get decidedBefore() {
    return ["second", "chosen"].includes(this.settings.order)
  }

  tally(item, action, by) {
    this.decidedAt = performance.now()
    if (!this.counts || this.decidedBefore) return
    const counts = { ...this.counts, waiting: Math.max(0, this.counts.waiting - by) }
    if (action === "skip") counts.skipped += by
    else counts.decided += by
    this.counts = counts
  }
}

function card(row) {
  return {
    id: row.row_id,
    number: row.row_no,
    text: row.text,
    domain: row.domain,
    suggestion: row.suggestion,
    confidence: row.confidence,
    probabilities: row.probabilities || [],
    explanation: row.explanation || "",
    broken: row.broken || [],
    draft: null,
    decisions: [],
    comment: "",
    seen: false,
    spent: 0,
  }
}

function newSession() {
  if (crypto.randomUUID) return crypto.randomUUID()
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("")
}
