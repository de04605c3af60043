const dark = matchMedia('(prefers-color-scheme: dark)');
function dress() {
  const css = getComputedStyle(document.documentElement), of = name => css.getPropertyValue(name).trim();
  for (const figure of document.querySelectorAll('.plotly-graph-div')) {
    const clear = 'rgba(0,0,0,0)', look = {paper_bgcolor: clear, plot_bgcolor: clear, 'font.color': of('--ink'),
      'hoverlabel.bgcolor': of('--ground'), 'hoverlabel.font.color': of('--ink')};
    if (figure.layout.xaxis) for (const axis of ['xaxis', 'yaxis'])
      for (const part of ['gridcolor', 'linecolor', 'zerolinecolor']) look[axis + '.' + part] = of('--line');
    Plotly.relayout(figure, look);
  }
}
if (window.Plotly) { dress(); dark.addEventListener('change', dress); }
for (const details of document.querySelectorAll('details'))  // a figure that was hidden has no width yet
  details.addEventListener('toggle', () => {
    for (const figure of details.querySelectorAll('.plotly-graph-div')) Plotly.Plots.resize(figure);
  });
document.querySelectorAll('#runs th').forEach((head, column) => {
  let rising = false;
  head.addEventListener('click', () => {
    rising = !rising;
    const body = document.querySelector('#runs tbody'), text = row => row.cells[column].textContent.replace(/^\(/, '');
    const both = (a, b) => [parseFloat(text(a)), parseFloat(text(b))];
    [...body.rows].sort((a, b) => {
      const [x, y] = both(a, b);
      const order = isNaN(x) || isNaN(y) ? text(a).localeCompare(text(b)) : x - y;
      return rising ? order : -order;
    }).forEach(row => body.append(row));
  });
});
