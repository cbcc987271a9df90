//! A dashboard of Grafana's.

#![expect(dead_code, reason = "a key is known by having a field")]

use serde::Deserialize;

use super::{Never, SourceType};

/// Types whose values are each one of a few words.
macro_rules! words {
    ($($name:ident: $($word:ident)|+;)+) => {
        $(
            #[derive(Debug, Deserialize)]
            #[serde(rename_all = "camelCase")]
            enum $name { $($word),+ }
        )+
    };
}

words! {
    Timezone: Browser | Utc;
    VariableType: Query;
    LinkType: Dashboards;
    Unit: Bytes | Percentunit | Reqps | S | Short;
    ShowPoints: Always | Auto | Never;
    StackingMode: None | Normal | Percent;
    LegendMode: Hidden | List | Table;
    Placement: Bottom | Right;
    TooltipMode: Multi | None | Single;
    SortOrder: Asc | Desc | None;
    ColorMode: Background | None | Value;
    GraphMode: Area | Line | None;
    Calculation: LastNotNull;
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Dashboard {
    pub(crate) uid: String,
    title: String,
    description: String,
    pub(crate) tags: Vec<String>,
    pub(crate) schema_version: u16,
    version: u32,
    editable: bool,
    timezone: Timezone,
    refresh: String,
    time: TimeRange,
    pub(crate) templating: Templating,
    annotations: Annotations,
    pub(crate) links: Vec<Link>,
    pub(crate) panels: Vec<Panel>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TimeRange {
    from: String,
    to: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Annotations {
    list: Vec<Never>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Templating {
    pub(crate) list: Vec<Variable>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Variable {
    pub(crate) name: String,
    label: String,
    #[serde(rename = "type")]
    kind: VariableType,
    pub(crate) datasource: SourceRef,
    pub(crate) query: VariableQuery,
    pub(crate) definition: String,
    /// 0: never, 1: when the dashboard is loaded, 2: when the time range changes.
    refresh: u8,
    include_all: bool,
    all_value: String,
    multi: bool,
    /// 0: not, 1: by the alphabet.
    sort: u8,
    current: VariableOption,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct VariableQuery {
    pub(crate) query: String,
    ref_id: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct VariableOption {
    selected: bool,
    text: String,
    value: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Link {
    #[serde(rename = "type")]
    kind: LinkType,
    title: String,
    pub(crate) tags: Vec<String>,
    as_dropdown: bool,
    include_vars: bool,
    keep_time: bool,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub(crate) enum Panel {
    Row(Row),
    Stat(Visual<StatOptions, Never>),
    Timeseries(Visual<TimeseriesOptions, GraphFieldConfig>),
}

impl Panel {
    pub(crate) fn id(&self) -> u32 {
        match self {
            Self::Row(row) => row.id,
            Self::Stat(panel) => panel.id,
            Self::Timeseries(panel) => panel.id,
        }
    }

    pub(crate) fn title(&self) -> &str {
        match self {
            Self::Row(row) => &row.title,
            Self::Stat(panel) => &panel.title,
            Self::Timeseries(panel) => &panel.title,
        }
    }

    pub(crate) fn place(&self) -> GridPos {
        match self {
            Self::Row(row) => row.grid_pos,
            Self::Stat(panel) => panel.grid_pos,
            Self::Timeseries(panel) => panel.grid_pos,
        }
    }

    /// The data source of all its targets, and those; of a row none.
    pub(crate) fn asks(&self) -> Option<(&SourceRef, &[Target])> {
        match self {
            Self::Row(_) => None,
            Self::Stat(panel) => Some((&panel.datasource, &panel.targets)),
            Self::Timeseries(panel) => Some((&panel.datasource, &panel.targets)),
        }
    }
}

/// One that is not collapsed: its panels stand below it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Row {
    pub(crate) id: u32,
    title: String,
    pub(crate) grid_pos: GridPos,
    collapsed: bool,
    panels: Vec<Never>,
}

/// A panel that shows something, with the options of its type, and what that has of its own for each field.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Visual<O, C> {
    pub(crate) id: u32,
    pub(crate) title: String,
    description: Option<String>,
    pub(crate) datasource: SourceRef,
    pub(crate) grid_pos: GridPos,
    field_config: FieldConfigSource<C>,
    options: O,
    pub(crate) targets: Vec<Target>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct GridPos {
    pub(crate) x: u32,
    pub(crate) y: u32,
    pub(crate) w: u32,
    pub(crate) h: u32,
}

#[derive(Debug, Clone, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(deny_unknown_fields)]
pub(crate) struct SourceRef {
    #[serde(rename = "type")]
    pub(crate) kind: SourceType,
    pub(crate) uid: String,
}

/// A query of Prometheus.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Target {
    pub(crate) datasource: SourceRef,
    pub(crate) ref_id: String,
    pub(crate) expr: String,
    pub(crate) legend_format: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FieldConfigSource<C> {
    defaults: FieldConfig<C>,
    overrides: Vec<Never>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FieldConfig<C> {
    unit: Unit,
    min: Option<f64>,
    max: Option<f64>,
    custom: Option<C>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct GraphFieldConfig {
    fill_opacity: u8,
    show_points: ShowPoints,
    stacking: Stacking,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stacking {
    mode: StackingMode,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TimeseriesOptions {
    legend: Legend,
    tooltip: Tooltip,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Legend {
    display_mode: LegendMode,
    placement: Placement,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tooltip {
    mode: TooltipMode,
    sort: SortOrder,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct StatOptions {
    color_mode: ColorMode,
    graph_mode: GraphMode,
    reduce_options: ReduceOptions,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ReduceOptions {
    calcs: Vec<Calculation>,
}
