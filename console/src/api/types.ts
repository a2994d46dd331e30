// The shapes of the API: crates/api/src/{lib,status,mirror}.rs and the console server's own.

export type Role = 'administrator' | 'operator' | 'viewer';
export type Language = 'zh' | 'en';

export interface Me {
  name: string;
  role: Role;
  csrf: string;
  cluster: string;
  node: string;
  version: string;
}

export interface StatusView {
  cluster: ClusterView;
  node: string;
  leader: string | null;
  term: number;
  version: string;
  committed: string;
  lease: boolean;
  disarmed: boolean;
  nodes: NodeView[];
  witness: WitnessView | null;
  groups: GroupView[];
}

export interface ClusterView {
  name: string;
  id: string;
  revision: number;
  /** `single-active` or `best-effort`. */
  guarantee: string;
  guarantee_reason: string;
}

export interface NodeView {
  name: string;
  number: number;
  /** `online`, `silent`, `down`, `left`, `unknown`. */
  state: string;
  boot_id: string;
  votes: boolean;
  maintenance: boolean;
  drained: boolean;
  held_out: boolean;
  fencing?: string | null;
  links: LinkView[];
}

export interface LinkView {
  name: string;
  address: string;
  /** `up`, `warning`, `down`, `own`, `unknown`. */
  state: string;
  loss_percent: number;
  round_trip_us: number | null;
}

export interface WitnessView {
  name: string;
  state: string;
  votes: boolean;
  disk?: QuorumView | null;
}

export interface QuorumView {
  path: string;
  number: string;
  problem: string | null;
  round_us: number | null;
  warnings: string[];
}

export interface GroupView {
  name: string;
  /** `stopped`, `starting`, `running`, `degraded`, `stopping`, `failed`, `cannot run`, `maintenance`, `unknown`. */
  state: string;
  active_on: string[];
  holder: string | null;
  epoch: number;
  pinned: string | null;
  maintenance: boolean;
  disabled: boolean;
  stopped_resources: string[];
  relations?: string[];
  reason: string;
  verdict: string;
  resources: ResourceView[];
  nodes: FitView[];
}

export interface ResourceView {
  name: string;
  kind: string;
  /** `stopped`, `starting`, `running`, `stopping`, `failed`, `runs unasked`, `maintenance`, `unknown`. */
  state: string;
  detail: string;
  restarts: number;
  restart_due: boolean;
}

export interface FitView {
  name: string;
  /** `active`, `standby`, `unfit`, `unknown`. */
  role: string;
  fit: boolean;
  reason: string;
}

export interface EventView {
  number: number;
  time: string;
  /** `message`, `warning`, `error`, `cleared`. */
  level: string;
  by: string;
  node: string | null;
  group: string | null;
  text: string;
}

export interface ExplainView {
  group: string;
  state: string;
  verdict: string;
  nodes: FitView[];
  relations?: string[];
  decisions: DecisionView[];
}

export interface DecisionView {
  version: string;
  from: string | null;
  to: string | null;
  reason: string;
}

export interface RevisionView {
  revision: number;
  time: string;
  summary: string;
}

export interface GraphView {
  resources: { name: string; kind: string; requires: string[] }[];
  nodes: string[];
}

export interface MirrorView {
  group: string;
  name: string;
  size: number;
  mode: string;
  lag_limit?: { bytes: number; ms: number } | null;
  generation: string;
  active_on: string | null;
  alone: boolean;
  copies: CopyView[];
  attention: string[];
  here: HereView | null;
}

export interface CopyView {
  node: string;
  number: number;
  /** `new`, `up to date`, `outdated`, `inconsistent`, `lost`, `split-brain`, `given up`. */
  state: string;
  place: string;
  disk: string;
  first?: boolean;
  connected: boolean;
  open: boolean;
}

export interface ProgressView {
  done: number;
  total: number;
  moved: number;
  rate: number;
  source: boolean;
}

export interface HereView {
  device: string | null;
  export: string | null;
  link: string | null;
  out_of_sync: number;
  resync: ProgressView | null;
  verify: ProgressView | null;
  verify_found: number | null;
  paused: boolean;
  lag_bytes: number;
  lag_ms: number;
  reads: number;
  writes: number;
  read_bytes: number;
  write_bytes: number;
  longest_stall_ms: number;
  last_write_ms: number | null;
  apart_since_ms?: number | null;
  snapshots: { name: string; taken_ms: number; automatic: boolean; bytes: number }[];
}

export interface FenceView {
  device: string;
  node: string;
  level: number;
  agent: string;
  action: string;
  answers: boolean | null;
  said: string;
}

export interface DaemonView {
  running: boolean;
  problem: string | null;
}

export interface Checked {
  ok: boolean;
  rendered: string;
  changes: string[];
}

export interface ConfigText {
  revision: number;
  text: string;
}

export interface AccountView {
  name: string;
  role: Role;
  tokens: string[];
}

/** Body of every answer of 4xx and 5xx. */
export interface Problem {
  problem: string;
  kind: string;
  setup?: boolean;
}
