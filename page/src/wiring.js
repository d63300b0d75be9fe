// What is connected with the elements of the page.

import { isDark } from './colours.js';
import { at, hideError, on, showError } from './dom.js';
import { Keyboard } from './keyboard.js';

/** Connects what a person uses with what it does. */
export function wire(app) {
  for (const id of ['axis-x', 'axis-y', 'colour-by']) on(at(id), 'change', () => app.view.take());
  for (const id of ['axis-x', 'axis-y']) on(at(id), 'change', () => app.showPlane());
  on(at('colour-by'), 'change', () => app.showColour());
  on(at('show-centres'), 'change', () => app.showColour());
  on(at('density-view'), 'change', () => app.showDensity());
  on(at('zoom-in'), 'click', () => app.plot.zoomBy(0.6));
  on(at('zoom-out'), 'click', () => app.plot.zoomBy(1 / 0.6));
  on(at('zoom-all'), 'click', () => app.plot.showAll());
  on(at('go'), 'submit', (event) => {
    event.preventDefault();
    return app.goTo();
  });
  on(at('make-umap'), 'click', () => app.jobs.open('analyze', { skip_volumes: true }));
  on(at('epochs'), 'change', () => app.openEpoch(Number(at('epochs').value)));
  on(at('theme'), 'click', () => app.setTheme(isDark() ? 'light' : 'dark'));
  for (const button of document.querySelectorAll('[data-mode]')) {
    on(button, 'click', () => setMode(app, button.dataset.mode));
  }
  const tabs = [...document.querySelectorAll('[role=tab]')];
  for (const tab of tabs) {
    on(tab, 'click', () => app.showTab(tab.dataset.tab));
    tab.addEventListener('keydown', ({ key }) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[key];
      const shown = tabs.filter(({ hidden }) => !hidden);
      if (step) shown.at((shown.indexOf(tab) + step) % shown.length).focus();
    });
  }
  app.overlay.onDrawn = (mode, corners) =>
    app.drawn(mode, corners).catch((error) => showError(error));
  app.plot.listen('hover', (point) => app.hover.show(point).catch((error) => showError(error)));
  const choose = (point) => {
    hideError();
    app.showTab('volumes');
    app.volumes.add(point).catch((error) => showError(error));
  };
  app.plot.listen('click', choose);
  app.keyboard = new Keyboard(app, choose);
  new ResizeObserver(async () => {
    await app.plot.resize();
    app.overlay.draw();
  }).observe(at('frame'));
}

function setMode(app, mode) {
  app.overlay.setMode(mode);
  for (const button of document.querySelectorAll('[data-mode]')) {
    button.setAttribute('aria-pressed', String(button.dataset.mode === mode));
  }
  app.keyboard.tell();
  at('path-settings').hidden = mode !== 'path';
  at('go').hidden = mode === 'path'; // both do not fit beside each other
}
