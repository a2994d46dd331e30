import { mirror as actions } from '../api/actions';
import type { HereView, MirrorView } from '../api/types';
import { ActionButtons } from '../components/action-buttons';
import { Work } from '../components/mirror-line';
import { Mark, State } from '../components/parts';
import { Waiting } from '../components/waiting';
import { isKey } from '../i18n/translate';
import { useText } from '../state/preferences';
import { useCluster } from '../state/store';
import { bytes, duration } from '../words/amounts';
import { type Tone, tone } from '../words/states';

export default function Mirrors() {
  const { t } = useText();
  const { status, mirrors } = useCluster();
  if (!status) return <Waiting />;
  return (
    <div className="page live-data">
      <h1>{t('mirrors.title')}</h1>
      {mirrors.length === 0 && <p>{t('overview.mirrors.none')}</p>}
      {mirrors.map((mirror) => (
        <MirrorCard key={`${mirror.group}/${mirror.name}`} mirror={mirror} />
      ))}
    </div>
  );
}

/** The worst of its copies gives the edge its colour. */
function worst(mirror: MirrorView): Tone {
  const found = mirror.copies.map((copy) => tone('copy', copy.state));
  return (['bad', 'warn', 'busy'] as const).find((level) => found.includes(level)) ?? 'good';
}

function MirrorCard({ mirror }: { mirror: MirrorView }) {
  const { t } = useText();
  const modeKey = `mirrors.mode.${mirror.mode}`;
  const offers = [
    { action: mirror.here?.paused ? actions.resume(mirror.group, mirror.name) : actions.pause(mirror.group, mirror.name) },
    { action: actions.verify(mirror.group, mirror.name) },
  ];
  const name = `${mirror.group}/${mirror.name}`;
  return (
    <section className={`card tone-edge-${worst(mirror)}`} aria-label={name}>
      <div className="row">
        <h2>{name}</h2>
        <span className="faint">
          {t('mirrors.size')} {bytes(mirror.size)}
        </span>
        <span>
          {t('mirrors.active')}: {mirror.active_on ?? t('common.nobody')}
        </span>
        {mirror.here?.paused && <Mark tone="hold">{t('mirrors.paused')}</Mark>}
      </div>
      <p className="faint">
        {t('mirrors.mode')}: {isKey(modeKey) ? t(modeKey) : mirror.mode}
      </p>
      {mirror.attention.length === 0 && <p className="tone-text-good">{t('mirrors.allwell')}</p>}
      {mirror.attention.map((said) => (
        <p key={said} className={`attention tone-${worst(mirror) === 'bad' ? 'bad' : 'warn'}`}>
          {said}
        </p>
      ))}
      {mirror.alone && <p className="tone-text-warn">{t('mirrors.alone')}</p>}
      <Copies mirror={mirror} />
      {mirror.here && <Here mirror={mirror} here={mirror.here} />}
      <ActionButtons offers={offers} about={name} />
    </section>
  );
}

function Copies({ mirror }: { mirror: MirrorView }) {
  const { t, state } = useText();
  return (
    <div className="grid">
      {mirror.copies.map((copy) => (
        <div key={copy.node} className={`card tone-edge-${tone('copy', copy.state)}`}>
          <div className="row">
            <h3>{t('mirrors.copy', { node: copy.node })}</h3>
            <State kind="copy" state={copy.state} />
          </div>
          <p className="faint">{state('copy', copy.state).means}</p>
          <p>
            {t('mirrors.place')}: <span className="mono">{copy.place}</span>
          </p>
          <p>{t(copy.connected ? 'mirrors.connected' : 'mirrors.notconnected')}</p>
          {copy.disk && <p className="tone-text-bad">{copy.disk}</p>}
        </div>
      ))}
    </div>
  );
}

function Here({ mirror, here }: { mirror: MirrorView; here: HereView }) {
  const { t, time } = useText();
  return (
    <div className="stack">
      {here.resync && <Work title={t('mirrors.resync')} work={here.resync} paused={here.paused} />}
      {here.verify && <Work title={t('mirrors.verify')} work={here.verify} paused={here.paused} />}
      {here.verify_found !== null && <p>{here.verify_found === 0 ? t('mirrors.same') : t('mirrors.found', { bytes: bytes(here.verify_found) })}</p>}
      {here.out_of_sync > 0 && (
        <p>
          {t('mirrors.outofsync')}: {bytes(here.out_of_sync)}
        </p>
      )}
      {mirror.lag_limit && (
        <p>
          {t('mirrors.lag')}:{' '}
          {t('mirrors.lag.value', {
            bytes: bytes(here.lag_bytes),
            time: duration(here.lag_ms / 1000),
            limit: `${bytes(mirror.lag_limit.bytes)}, ${duration(mirror.lag_limit.ms / 1000)}`,
          })}
        </p>
      )}
      {here.snapshots.length > 0 && (
        <p>
          {t('mirrors.snapshots')}: {here.snapshots.map((snapshot) => `${snapshot.name} (${time(snapshot.taken_ms)}, ${bytes(snapshot.bytes)})`).join('; ')}
        </p>
      )}
    </div>
  );
}
