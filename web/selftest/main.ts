import './style.css';
import { Session } from '../client/session.ts';
import type { DeviceChoice } from '../client/types.ts';
import { about, markdown, shown, verdict, type Result } from './report.ts';

const element = <T extends HTMLElement>(id: string) => document.getElementById(id) as T;
const run = element<HTMLButtonElement>('run');
const copy = element<HTMLButtonElement>('copy');
const choice = element<HTMLSelectElement>('device');
const status = element('status');
let report = '';

function row(table: string, cells: string[], header = false): HTMLTableRowElement {
  const line = document.createElement('tr');
  cells.forEach((text, index) => {
    const cell = document.createElement(header && index === 0 ? 'th' : 'td');
    if (cell.tagName === 'TH') cell.setAttribute('scope', 'row');
    cell.textContent = text;
    line.append(cell);
  });
  document.querySelector(`#${table} tbody`)!.append(line);
  return line;
}

function show(result: Result): void {
  report = markdown(result, navigator.userAgent);
  for (const body of document.querySelectorAll('tbody')) body.replaceChildren();
  for (const cells of about(result.device, navigator.userAgent)) row('about', cells, true);
  for (const { kernel, shader, cases, maxUlp, nmse, passed, message } of result.kernels) {
    const result = passed ? 'passed' : `failed ${message ?? ''}`.trim();
    const line = row('kernels', [kernel, shader, String(cases), String(maxUlp), shown(nmse), result], true);
    for (const index of [2, 3, 4]) line.cells[index]!.className = 'number';
    line.cells[5]!.className = passed ? 'passed' : 'failed';
  }
  const passed = result.kernels.every((check) => check.passed);
  element('verdict').textContent = verdict(result.kernels);
  element('verdict').className = passed ? 'passed' : 'failed';
  element('result').hidden = false;
}

run.onclick = async () => {
  run.disabled = copy.disabled = true;
  status.textContent = 'Opening the device';
  let session: Session | undefined;
  try {
    session = await Session.open({ device: choice.value as DeviceChoice });
    session.on('work', ({ what, done, of }) => (status.textContent = `${done} of ${of} kernels: ${what}`));
    show(await session.selfTest());
    status.textContent = 'Done';
    copy.disabled = false;
  } catch (error) {
    status.textContent = `The self-test stopped: ${(error as Error).message}`;
  } finally {
    session?.close();
    run.disabled = false;
  }
};

copy.onclick = async () => {
  try {
    await navigator.clipboard.writeText(report);
    status.textContent = 'The report is in the clipboard';
  } catch {
    // Without the right to write to the clipboard the report is shown, to be marked and copied.
    const text = document.createElement('pre');
    text.textContent = report;
    status.replaceChildren('Copy it from here:', text);
  }
};
