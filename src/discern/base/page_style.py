"""The report page's style sheet: light and dark, readable at 390 pixels and on paper.

Colors are the workbench's tokens; every text has a contrast of at least 4.5 on its panel.
"""

STYLE = """
:root{color-scheme:light dark;--page:#F6F7F9;--panel:#fff;--ink:#14181F;--soft:#5B6472;
--line:#DFE3E8;--accent:#4447D6;--tint:#DFE0FA;--bad:#C0262D;--on:#fff;
--warn:#8F5B00;--warntint:#FBF0DA}
@media(prefers-color-scheme:dark){:root{--page:#0E1116;--panel:#161A22;--ink:#E9ECF1;
--soft:#9BA5B4;--line:#2B313C;--accent:#8E96FF;--tint:#2D3263;--bad:#FF7F7A;--on:#0E1116;
--warn:#E5B454;--warntint:#362A12}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);
font:14px/1.5 Inter,system-ui,-apple-system,"Segoe UI",Roboto,sans-serif;
font-variant-numeric:tabular-nums}
main{max-width:1000px;margin:0 auto;padding:32px 24px 64px;display:grid;gap:16px;
grid-template-columns:repeat(2,minmax(0,1fr))}
header,section{grid-column:1/-1;background:var(--panel);border:1px solid var(--line);
border-radius:10px;padding:24px;min-width:0}
section.half{grid-column:auto}
footer{grid-column:1/-1;color:var(--soft);font-size:12px;text-align:center}
h1{font-size:16px;font-weight:600;margin:0 0 20px;overflow-wrap:anywhere}
h2{font-size:14px;font-weight:600;margin:0 0 4px}
.sub{color:var(--soft);margin:0 0 14px;font-size:13px}
.warn{background:var(--warntint);color:var(--warn);border-radius:8px;padding:8px 12px;
margin:0 0 16px;font-weight:500}
.hero{display:flex;gap:12px 40px;align-items:end;flex-wrap:wrap}
.score{font-size:76px;font-weight:600;line-height:.95;letter-spacing:-.035em;white-space:nowrap}
.score small{font-size:32px;font-weight:500;color:var(--soft);letter-spacing:0;margin-left:3px}
.hero p{margin:0;max-width:46ch;flex:1 1 280px}
.hero p span{color:var(--soft)}
.scale{position:relative;height:8px;border-radius:4px;background:var(--line);margin:26px 0 6px}
.scale i{position:absolute;inset:0 auto 0 0;border-radius:4px;background:var(--accent);
opacity:.3}
.scale b{position:absolute;top:-4px;width:3px;height:16px;border-radius:2px;margin-left:-1.5px;
background:var(--accent)}
.scale u{position:absolute;top:-2px;width:1.5px;height:12px;background:var(--soft)}
.ends{display:flex;justify-content:space-between;color:var(--soft);font-size:12px}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(120px,1fr));gap:16px;
margin-top:24px;padding-top:20px;border-top:1px solid var(--line)}
.tiles b{display:block;font-size:20px;font-weight:600}
.tiles span{color:var(--soft);font-size:12px}
.scroll{overflow-x:auto}
table{width:100%;border-collapse:collapse}
th,td{text-align:left;padding:7px 12px;border-bottom:1px solid var(--line);font-weight:400}
th:first-child{padding-left:0;max-width:260px;overflow-wrap:anywhere}
td:last-child,th.num:last-child{padding-right:0}
thead th{color:var(--soft);font-size:12px}
tbody tr:last-child>*{border-bottom:0}
.num{text-align:right}
.meter{width:23%;min-width:92px}
.meter span{display:grid;grid-template-columns:1fr 44px;align-items:center;gap:8px;
text-align:right}
.meter i{height:6px;border-radius:3px;background:linear-gradient(to right,var(--accent) var(--v),
var(--line) var(--v))}
.facts th{color:var(--soft);white-space:nowrap;width:1%;vertical-align:top}
.facts td{overflow-wrap:anywhere}
.pairs{margin:0;padding:0;list-style:none}
.pairs li{display:flex;justify-content:space-between;gap:16px;padding:6px 0;
border-bottom:1px solid var(--line);overflow-wrap:anywhere}
.pairs li:last-child{border:0}
.pairs span{color:var(--soft);white-space:nowrap}
.pairs em{font-style:normal;color:var(--soft)}
svg{display:block;overflow:visible}
svg .n{fill:var(--soft)} svg .d{fill:var(--ink)} svg .l{fill:var(--on)}
svg .c{fill:var(--accent)} svg .e{fill:var(--bad)}
svg .frame{fill:none;stroke:var(--line)} svg .grid{stroke:var(--line);stroke-width:.7}
svg .ideal{stroke:var(--soft);stroke-dasharray:3 3}
.matrix{margin:0 auto}
.legend{white-space:nowrap}
.legend i{display:inline-block;width:10px;height:10px;border-radius:3px;margin:0 5px 0 14px;
background:var(--accent)} .legend i.e{background:var(--bad)}
.sure{display:flex;gap:20px;flex-wrap:wrap;align-items:center}
.sure p{flex:1 1 150px;margin:0}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(250px,1fr));gap:24px}
.chart svg{width:100%;height:auto}
.chart figcaption{display:flex;gap:14px;margin:0 0 6px;font-size:12px}
.chart figcaption b{margin-right:auto;font-weight:500}
.key{color:var(--soft)}
.key:before{content:"";display:inline-block;width:14px;height:2px;vertical-align:middle;
margin-right:5px;background:var(--accent)}
.key.train:before{background:var(--soft)}
.line{fill:none;stroke:var(--accent);stroke-width:1.8;stroke-linejoin:round}
.line.train{stroke:var(--soft);stroke-width:1.2}
.dot{fill:var(--accent)} .dot.train{fill:var(--soft)}
.gallery{display:grid;grid-template-columns:repeat(auto-fill,minmax(100px,1fr));gap:20px 12px}
figure{margin:0;min-width:0}
.thumb{height:100px;border-radius:6px;background:var(--page);border:1px solid var(--line);
display:grid;place-items:center;overflow:hidden;color:var(--soft);font-size:12px;
text-align:center}
.thumb img{display:block;max-width:96px;max-height:96px;border-radius:3px}
.gallery figcaption{font-size:12px;line-height:1.4;margin-top:6px;overflow-wrap:anywhere}
.gallery figcaption b{font-weight:600}
.gallery figcaption span{color:var(--soft)}
pre{margin:0;overflow-x:auto;font:12.5px/1.6 ui-monospace,SFMono-Regular,Menlo,monospace}
summary{cursor:pointer;font-weight:600} details[open] summary{margin-bottom:12px}
:focus-visible{outline:2px solid var(--accent);outline-offset:3px;border-radius:4px}
@media(max-width:640px){main{padding:12px 12px 40px;gap:12px;grid-template-columns:minmax(0,1fr)}
section.half{grid-column:1/-1} header,section{padding:16px}.score{font-size:60px}
th,td{padding:7px 6px}.meter{min-width:52px}.meter span{display:block}.meter i{display:none}}
@media print{body{background:#fff}header,section{break-inside:avoid}}
""".strip()
