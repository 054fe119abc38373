/* The stream, its age, and what a page must not do while data comes in. No framework, no globals.
 *
 * Browsers allow six connections to a host, so all tabs of a browser share one stream: the tab that
 * holds the lock "mse-live" keeps it and passes on what arrives. Only visible tabs compete for the
 * lock; a hidden leader gives it away, so a phone that freezes hidden tabs starves nobody. */
(() => {
  'use strict'
  const STALE_MS = 3000
  const me = crypto.randomUUID()
  const channel = new BroadcastChannel('mse-live')
  const wants = new Map() // tab -> topics, as the leader knows them
  let page = null // the source that htmx works with
  let real = null // the connection, in the leader only
  let release = null
  let asking = null
  let opening = 0
  let lastTick = performance.now()

  class SharedSource extends EventTarget {
    constructor(url) {
      super()
      const query = new URL(url, location.href).searchParams
      this.topics = (query.get('topics') || '').split(',').filter(Boolean)
      this.listeners = new Map() // topic -> how many
      this.language = query.get('lang') || ''
      this.readyState = EventSource.OPEN
      this.onerror = this.onopen = null
    }
    /* What htmx listens to is what the page shows: a list that was filtered follows other rows. */
    addEventListener(name, listener) {
      super.addEventListener(name, listener)
      this.listeners.set(name, (this.listeners.get(name) || 0) + 1)
      if (this.topics.includes(name)) return
      this.topics.push(name)
      followSoon()
    }
    removeEventListener(name, listener) {
      super.removeEventListener(name, listener)
      this.listeners.set(name, this.listeners.get(name) - 1)
      if (!this.listeners.get(name)) this.topics = this.topics.filter((topic) => topic !== name)
    }
    close() { this.readyState = EventSource.CLOSED }
  }

  const deliver = (name, data) => {
    if (name === 'tick') lastTick = performance.now()
    if (!page) return
    page.dispatchEvent(new MessageEvent(name, { data }))
    document.dispatchEvent(new CustomEvent('mse:live', { detail: { name, data } }))
  }

  const union = () => {
    const all = new Set(page ? page.topics : [])
    for (const topics of wants.values()) topics.forEach((topic) => all.add(topic))
    return [...all].sort()
  }

  const open = () => {
    if (!release || !page) return
    if (real) real.close()
    const topics = union()
    const source = new EventSource(`/live?lang=${page.language}&topics=${encodeURIComponent(topics.join(','))}`)
    real = source
    for (const name of ['tick', ...topics]) {
      source.addEventListener(name, (event) => {
        if (source !== real) return
        deliver(name, event.data)
        channel.postMessage({ type: 'frame', name, data: event.data })
      })
    }
    source.onopen = () => { if (page && page.onopen) page.onopen(new Event('open')) }
    source.onerror = () => {
      if (source !== real) return
      if (page && page.onerror) page.onerror(new Event('error'))
      if (source.readyState === EventSource.CLOSED) {
        checkSession()
        setTimeout(() => { if (source === real) open() }, 1500)
      }
    }
  }
  const openSoon = () => { clearTimeout(opening); opening = setTimeout(open, 120) }

  const checkSession = () => {
    fetch('/me/session').then((answer) => {
      if (answer.status === 401) location.href = `/login?ended=1&next=${encodeURIComponent(location.pathname + location.search)}`
    }, () => {})
  }

  const followSoon = () => { if (release) openSoon(); else announce() }

  const announce = () => { if (page) channel.postMessage({ type: 'want', tab: me, topics: page.topics }) }

  const compete = () => {
    if (asking || release || document.hidden || !page) return
    asking = new AbortController()
    navigator.locks.request('mse-live', { signal: asking.signal }, () => {
      asking = null
      if (document.hidden) return undefined
      return new Promise((resolve) => {
        release = resolve
        wants.clear()
        channel.postMessage({ type: 'who' })
        openSoon()
      })
    }).catch(() => {})
    announce()
  }

  const stepDown = () => {
    if (asking) { asking.abort(); asking = null }
    if (real) { real.close(); real = null }
    if (release) { release(); release = null }
    channel.postMessage({ type: 'gone', tab: me })
  }

  channel.onmessage = ({ data }) => {
    if (data.type === 'frame') deliver(data.name, data.data)
    else if (data.type === 'who' && !document.hidden) announce()
    else if (data.type === 'want' && release) {
      wants.delete(data.tab)
      wants.set(data.tab, data.topics)
      openSoon() // also for known topics: whoever joins needs the whole picture, not the changes
    } else if (data.type === 'gone') wants.delete(data.tab)
  }

  htmx.createEventSource = (url) => {
    page = new SharedSource(url)
    compete()
    return page
  }

  document.addEventListener('visibilitychange', () => {
    if (document.hidden) stepDown()
    else { lastTick = performance.now(); compete() }
  })
  addEventListener('pagehide', stepDown)
  addEventListener('pageshow', (event) => { if (event.persisted) { lastTick = performance.now(); compete() } })

  /* Age is data: a bar after three seconds of silence, and nothing can be set off meanwhile. */
  const bar = document.getElementById('stale')
  const live = () => document.querySelectorAll('[data-live]')
  setInterval(() => {
    if (!page || document.hidden) return
    const age = performance.now() - lastTick
    const stale = age > STALE_MS
    document.documentElement.classList.toggle('is-stale', stale)
    bar.hidden = !stale
    if (stale) bar.textContent = `${document.body.dataset.stale} ${Math.floor(age / 1000)} ${document.body.dataset.seconds}`
    for (const button of live()) {
      if (stale && !button.disabled) { button.disabled = true; button.dataset.byAge = '1' }
      else if (!stale && button.dataset.byAge) { button.disabled = false; delete button.dataset.byAge }
    }
  }, 500)

  /* A region that holds the focus is swapped when the focus has left it. */
  const waiting = new Map()
  document.addEventListener('htmx:oobBeforeSwap', (event) => {
    const { target, fragment } = event.detail
    if (!target?.id || !target.contains(document.activeElement)) { if (target) waiting.delete(target.id); return }
    event.preventDefault()
    event.detail.shouldSwap = false
    waiting.set(target.id, fragment.innerHTML ?? [...fragment.childNodes].map((n) => n.innerHTML ?? '').join(''))
  })
  document.addEventListener('focusout', () => setTimeout(() => {
    for (const [id, html] of waiting) {
      const target = document.getElementById(id)
      if (target && target.contains(document.activeElement)) continue
      waiting.delete(id)
      if (target) { target.innerHTML = html; htmx.process(target) }
    }
  }, 0))

  /* The page that is shown stands in view, although a narrow row of pages scrolls. */
  for (const here of document.querySelectorAll('nav [aria-current]')) {
    const row = here.parentElement
    row.scrollLeft = here.offsetLeft - row.offsetLeft - (row.clientWidth - here.offsetWidth) / 2
  }

  /* In a dialog: what the page behind it says at this moment. */
  document.addEventListener('mse:live', () => {
    for (const copy of document.querySelectorAll('dialog [data-mirror]')) {
      const html = document.getElementById(copy.dataset.mirror)?.innerHTML
      if (html !== undefined && copy.innerHTML !== html) copy.innerHTML = html
    }
  })

  /* Dialogs arrive as fragments and open as modal; what they refuse is shown inside them. */
  document.addEventListener('htmx:afterSwap', (event) => {
    if (event.detail.target?.id !== 'dialog-slot') return
    const dialog = event.detail.target.querySelector('dialog')
    if (!dialog) return
    dialog.showModal()
    dialog.addEventListener('close', () => { document.getElementById('dialog-slot').replaceChildren() })
  })
  document.addEventListener('click', (event) => {
    const close = event.target.closest('[data-close]')
    if (close) close.closest('dialog').close()
    for (const menu of document.querySelectorAll('details.menu[open]')) if (!menu.contains(event.target)) menu.open = false
  })
  document.addEventListener('keydown', (event) => {
    if (event.key !== 'Escape') return
    for (const menu of document.querySelectorAll('details.menu[open]')) { menu.open = false; menu.querySelector('summary').focus() }
  })
  document.addEventListener('input', (event) => {
    const field = event.target
    if (!field.dataset || field.dataset.confirm === undefined) return
    field.form.querySelector('[data-final]').disabled = field.value !== field.dataset.confirm
  })
  document.addEventListener('change', (event) => {
    if (event.target.matches('[data-submit]')) event.target.form.requestSubmit()
  })

  /* What went wrong with a request is told where the eye is, never swallowed. */
  const notice = (text, bad) => {
    const place = document.getElementById('notice')
    place.textContent = text
    place.classList.toggle('notice-bad', bad)
  }
  document.addEventListener('htmx:beforeSwap', (event) => {
    const { xhr } = event.detail
    if (xhr.status >= 400 && xhr.getResponseHeader('HX-Retarget')) {
      event.detail.shouldSwap = true
      event.detail.isError = false
    }
  })
  document.addEventListener('htmx:responseError', (event) => notice(`${event.detail.xhr.status} ${event.detail.xhr.statusText}`, true))
  document.addEventListener('htmx:sendError', () => notice(document.body.dataset.lost, true))
  document.addEventListener('click', () => { if (document.getElementById('notice').textContent) notice('', false) }, true)
})()
