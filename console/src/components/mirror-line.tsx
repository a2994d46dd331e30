import { Progress } from 'antd';
import type { MirrorView, ProgressView } from '../api/types';
import { useText } from '../state/preferences';
import { bytes, duration, percent } from '../words/amounts';
import { State } from './parts';

export function MirrorLine({ mirror }: { mirror: MirrorView }) {
  const { t } = useText();
  return (
    <div className="stack">
      <div className="row">
        <a href="#/mirrors">
          {mirror.group}/{mirror.name}
        </a>
        <span className="faint">{bytes(mirror.size)}</span>
        {mirror.copies.map((copy) => (
          <span key={copy.node} className="row">
            {copy.node} <State kind="copy" state={copy.state} />
          </span>
        ))}
      </div>
      {mirror.here?.resync && <Work title={t('mirrors.resync')} work={mirror.here.resync} paused={mirror.here.paused} />}
      {mirror.here?.verify && <Work title={t('mirrors.verify')} work={mirror.here.verify} paused={mirror.here.paused} />}
    </div>
  );
}

export function Work({ title, work, paused }: { title: string; work: ProgressView; paused: boolean }) {
  const { t } = useText();
  const left = work.rate > 0 ? duration((work.total - work.done) / work.rate) : '–';
  return (
    <div>
      <div>
        {title}
        {paused ? ` (${t('mirrors.paused')})` : ''}:{' '}
        <span className="faint">{t('mirrors.rate', { done: bytes(work.done), total: bytes(work.total), rate: bytes(work.rate), left })}</span>
      </div>
      <Progress percent={percent(work.done, work.total)} status={paused ? 'normal' : 'active'} aria-label={title} />
    </div>
  );
}
