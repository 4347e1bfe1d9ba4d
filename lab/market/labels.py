"""What the market's phrases and profile features are called in Chinese, as the trade says it."""

from collections.abc import Mapping
from types import MappingProxyType

from contract.labels import Labels


def _chinese(name: str, *words: str) -> tuple[Labels, ...]:
    return (Labels("zh", name, words),)


_CATEGORIES = ("连衣裙", "T恤", "卫衣", "大衣", "连体裤", "半身裙", "长裤", "短裤")

OF_KINDS: Mapping[str, tuple[Labels, ...]] = MappingProxyType(
    {
        "category": _chinese("品类", *_CATEGORIES),
        "colour": _chinese("颜色", "黑色", "白色", "红色", "蓝色", "绿色", "黄色", "粉色", "紫色", "米色", "棕色"),
        "sleeve": _chinese("袖长", "无袖", "短袖", "长袖"),
        "sleeve_style": _chinese("袖型", "直筒袖", "喇叭袖", "泡泡袖"),
        "neckline": _chinese("领型", "圆领", "V领", "高领", "一字肩"),
        "fit": _chinese("版型", "修身", "合体", "宽松"),
        "length": _chinese("长度", "短款", "中长款", "长款"),
        "pattern": _chinese("图案", "纯色", "条纹", "波点", "碎花", "格纹"),
        "trim": _chinese("装饰", "无装饰", "亮片", "荷叶边", "蝴蝶结"),
        "belt": _chinese("腰带", "无腰带", "配腰带"),
        "hair": _chinese("模特发型", "长发模特", "短发模特", "盘发模特"),
        "backdrop": _chinese("背景", "影棚背景", "海滩背景", "城市背景"),
    }
)
OF_FEATURES: Mapping[str, tuple[Labels, ...]] = MappingProxyType(
    {
        "style": _chinese("风格", "极简", "奢华", "波西米亚", "街头", "浪漫", "运动"),
        "price_level": _chinese("价位", "平价", "中端", "高端"),
        "main_category": _chinese("主营品类", *_CATEGORIES),
        "region": _chinese("地区", "北方", "南方", "沿海", "大都市"),
        "season": _chinese("季节", "春季", "夏季", "秋季", "冬季"),
        "audience": _chinese("客群", "青少年", "学生", "职场人士", "家长", "中老年"),
        "years_open": _chinese("开店年限"),
    }
)
