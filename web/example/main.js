import { Session, DEFAULTS } from 'centripetal';

const log = (line) => document.getElementById('log').append(line, '\n');
// The data set is in the package too; copy node_modules/centripetal/package/data beside your page (here: into public/).
const session = await Session.open({ dataUrl: 'data/' });
log(`on ${session.device.name}: ${session.device.reason}`);
await session.useEmbedded();
await session.reset(DEFAULTS);
// About five times a second, whether steps are asked for one by one or until pause.
session.on('progress', ({ step, loss, deviation }) => log(`step ${step}  loss ${loss.toFixed(3)}  deviation ${deviation ?? '-'}`));
await session.step(200);
const { forecast } = await session.cluster();
log(forecast.sentence);
await session.train();
await new Promise((resolve) => session.on('paused', resolve));
const { certificate } = await session.cut();
log(`cut to ${((100 * certificate.macsAfter) / certificate.macsBefore).toFixed(0)} % of the multiplications;`);
log(`${certificate.argmaxAgreement} of ${certificate.samples} answers are the same`);
