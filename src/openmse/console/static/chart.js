/* Live charts: uPlot, fed by the page's stream; colours are the theme's roles. */
(() => {
  'use strict'
  const role = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim()
  const WINDOW_S = 300

  const make = (element) => {
    const points = JSON.parse(element.dataset.points)
    const data = [points.map((p) => p[0] / 1000), points.map((p) => p[1])]
    const unit = element.dataset.unit
    const axis = () => ({ stroke: role('muted'), font: '12px sans-serif', grid: { stroke: role('line'), width: 1 }, ticks: { show: false } })
    const options = {
      width: element.clientWidth, height: 160, legend: { show: false }, padding: [8, 20, 0, 0],
      cursor: { drag: { x: false, y: false } },
      scales: {
        x: { time: true, range: () => { const now = Date.now() / 1000; return [now - WINDOW_S, now] } },
        y: { range: (_, low, high) => [0, Math.max(high ?? 0, Number(element.dataset.floor)) * 1.15] },
      },
      axes: [
        { ...axis(), size: 28, values: (_, ticks) => ticks.map((t) => new Date(t * 1000).toISOString().slice(11, 16)), space: 80 },
        { ...axis(), size: 64, values: (_, ticks) => ticks.map((t) => `${t.toLocaleString('en', { maximumFractionDigits: 2 })} ${unit}`) },
      ],
      series: [{}, { stroke: role('accent'), width: 1.5, points: { show: false }, spanGaps: false }],
    }
    element.replaceChildren()
    const plot = new uPlot(options, data, element)
    new ResizeObserver(() => plot.setSize({ width: element.clientWidth, height: 160 })).observe(element)
    document.addEventListener('mse:live', (event) => {
      if (event.detail.name !== element.dataset.topic) return
      const point = JSON.parse(event.detail.data)
      if (point.at / 1000 <= (data[0].at(-1) ?? 0)) return
      data[0].push(point.at / 1000)
      data[1].push(point[element.dataset.key])
      while (data[0].length > 600) { data[0].shift(); data[1].shift() }
      plot.setData(data)
    })
  }
  document.querySelectorAll('[data-chart]').forEach(make)
})()
